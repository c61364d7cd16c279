import sys

from .base import main

main(sys.argv[1:])
