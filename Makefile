# `make test` sets a fresh machine up and runs every gate; `tests/run NAME...` runs some of them.
.PHONY: test
test:
	@tests/run
