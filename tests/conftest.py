"""What all tests share."""

import signal

# A shell that starts the suite in the background lets it ignore Ctrl-C, and the tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
