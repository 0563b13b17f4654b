"""The model on disk: a folder of plain data, every file hashed in its manifest.

    anogan-model/
      manifest.json            schema, config, metadata, calibration, size and SHA-256 of each file
      <network>.safetensors    the weights of one network
      calibration.safetensors  the calibration's arrays
      training_curves.png ...  attachments

JSON and safetensors hold data and nothing that runs, so a model from elsewhere is safe to open. The
hashes find damage, not forgery: whoever can write the folder can also write a manifest that fits.
"""

from anogan.bundle.manifest import MANIFEST, SCHEMA_VERSION
from anogan.bundle.store import (
    Bundle,
    bundle_digest,
    check_save_target,
    default_model_path,
    load_bundle,
    read_manifest,
    save_bundle,
)

__all__ = [
    "MANIFEST",
    "SCHEMA_VERSION",
    "Bundle",
    "bundle_digest",
    "check_save_target",
    "default_model_path",
    "load_bundle",
    "read_manifest",
    "save_bundle",
]
