"""`python -m pfitre_service` is `pfitre`."""

from pfitre_service.cli import main

if __name__ == "__main__":
    main()
