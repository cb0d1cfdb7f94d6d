"""What a process of training sets before libraries are loaded."""

import logging
import os


def prepare_process() -> None:
    """Set what libraries read when they are loaded, and leave the terminal to our own messages."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive the fork of data workers
    # Read when torch is loaded. Threads that spin while they wait starve each other on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    for name in ("accelerate", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Warns at each save that tied embeddings are stored once, as they should be.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
