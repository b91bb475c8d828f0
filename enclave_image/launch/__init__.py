"""Start the image on real TDX hosts: `python -m enclave_image.launch --help`, and README.md."""
