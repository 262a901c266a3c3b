"""The distributions that scenes are drawn from: what varies, between which bounds.

Numbers follow one real four-pipette frame (0.76 um a pixel) and are spread around it.
`REFERENCE_UM` is the pixel size that pixel lengths are given at; `sample` scales them to the
session's.
"""

from dataclasses import dataclass, replace

REFERENCE_UM = 0.76


@dataclass(frozen=True)
class Recipe:
    """What may be asked of a set of scenes.

    Attributes:
        modality: 'twophoton'; 'brightfield', drawn; or 'diffraction', from its optics.
        counts: probability of 0, 1, 2, ... labelled tips, beside an intruder's.
        photons: bounds of the photon budget, drawn uniformly.
        contrast: bounds of a factor on every pipette's contrast.
        intruder: probability of a shaft that crosses the field, its tip outside (rarely in a
            corner).
        min_cnr: scenes with a tip below this are drawn again.
        relief: whether it is differential interference contrast, with tissue in the light.
        neuropil: whether two-photon tissue has fibres, pieces of cells and holes of vessels.
    """

    modality: str = 'twophoton'
    counts: tuple[float, ...] = (0.0, 0.25, 0.25, 0.25, 0.25)
    photons: tuple[float, float] = (10.0, 150.0)
    contrast: tuple[float, float] = (0.5, 1.6)
    intruder: float = 0.15
    min_cnr: float = 0.0
    relief: bool = False
    neuropil: bool = False

    @property
    def transmitted(self) -> bool:
        """Whether light passes through the sample: no fluorescence, no photomultiplier."""
        return self.modality != 'twophoton'


_standard = Recipe()
_bath = replace(
    _standard,
    modality='brightfield',
    counts=(0.05, 0.95),
    photons=(200.0, 3000.0),
    contrast=(0.7, 1.1),
    intruder=0.05,
)

RECIPES = {
    'standard': _standard,
    'clear': replace(_standard, photons=(60.0, 150.0), contrast=(1.2, 2.2), min_cnr=2.0),
    'starved': replace(_standard, photons=(10.0, 20.0)),
    # Training sees empty fields as well, or it would never learn to say none; more tips than a rig
    # has, because each teaches something and an image costs the same; and clearer tips beside the
    # hard ones, from which a young network learns nothing yet.
    'training': replace(
        _standard,
        counts=(0.05, 0.15, 0.18, 0.18, 0.18, 0.08, 0.06, 0.06, 0.06),
        contrast=(0.5, 3.0),
    ),
    # The same within what a head of four slots can answer.
    'rig': replace(_standard, counts=(0.06, 0.2, 0.22, 0.26, 0.26), contrast=(0.5, 3.0)),
    # What the frozen sets have none of: a felt of fibres between the cells, bright pieces of those
    # that the plane cuts, round holes where it cuts vessels.
    'neuropil': replace(
        _standard,
        counts=(0.15, 0.2, 0.2, 0.2, 0.15, 0.1),
        contrast=(0.5, 3.0),
        neuropil=True,
    ),
    'empty': replace(_standard, counts=(1.0,), intruder=0.5),
    'crowded': replace(_standard, counts=(0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.25, 0.25, 0.25)),
    'brightfield': _bath,
    # The same bath and pipettes whose looks follow from glass, height and microscope.
    'diffraction': replace(_bath, modality='diffraction'),
    # Brain slices under differential interference contrast, half of them without a pipette.
    'slice': replace(
        _standard,
        modality='diffraction',
        counts=(0.5, 0.3, 0.2),
        photons=(100.0, 3000.0),
        contrast=(0.4, 1.1),
        relief=True,
    ),
}
