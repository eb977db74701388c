"""The pipeline's stages, in order: check, fetch, split, train, evaluate, predict."""

from stages.common import console, determinism, noted, settings

# A package is imported before its modules, so no stage can import torch ahead of the pins.
noted.note_code()
console.open_closed_streams()
settings.leave_out_users_settings()
determinism.pin_cpu_code_paths()
console.end_with_dvc()
console.end_quietly_while_importing()
