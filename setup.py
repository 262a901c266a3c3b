"""Install pipedet: `pip install -e .`, with `[test]` for the test suite."""

from pathlib import Path

from setuptools import find_packages, setup

RIVALS = ['monai>=1.4', 'einops>=0.7']  # networks that RUNet is compared with
TUNE = ['optuna>=5']
RUNTIME = ['onnxruntime>=1.20']
EXPORT = [*RUNTIME, 'onnx>=1.17', 'onnxscript>=0.5']

setup(
    name='pipedet',
    version='0.1.0',
    description='Locate micropipette tips in microscope images: train, compare, measure, run.',
    long_description=Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['pipedet', 'pipedet.*']),
    package_data={
        'pipedet.synthesis': ['frozen/*.json'],
        'pipedet.zoo': ['*/config.json', '*/model.safetensors*', '*/card.md'],
    },
    install_requires=[
        # Pinned: the engine works round defects measured in exactly this release.
        'mmengine==0.10.7',
        'mmcv-lite>=2.2',
        'torch>=2.9',
        'timm>=1.0',
        'scipy>=1.11',
        'numpy>=1.26',
        'opencv-python>=4.9',
        'pillow>=10',
        'tifffile>=2024.1',
        'imagecodecs>=2024.1',  # TIFFs are often compressed
        'matplotlib>=3.8',
        'safetensors>=0.4',
        'pydantic>=2.6',
        'markdown>=3.5',
    ],
    extras_require={
        'rivals': RIVALS,
        'tune': TUNE,
        'runtime': RUNTIME,
        'export': EXPORT,
        'test': [
            'pytest>=8',
            'pytest-xdist>=3.5',
            'hypothesis>=6.100',
            'ruff>=0.6',
            'bandit>=1.8',
            *RIVALS,
            *TUNE,
            *EXPORT,
        ],
    },
    entry_points={'console_scripts': ['pipedet=pipedet.cli:main']},
)
