"""What a rig runs: an exported detector as one ONNX file, and a session that needs no torch.

`export.py` writes the file, on the machine that trains. `session.py` and what it imports need
numpy, opencv and ONNX Runtime alone.
"""
