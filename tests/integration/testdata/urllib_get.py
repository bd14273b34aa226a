"""urllib_get.py URL: prints the SHA-256 of what urllib reads."""
import hashlib, sys, urllib.request
with urllib.request.urlopen(sys.argv[1], timeout=60) as response:
    h = hashlib.sha256()
    while block := response.read(65536):
        h.update(block)
print(h.hexdigest())
