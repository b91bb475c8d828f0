"""Running product code over directories of test vectors: `attested conformance TOPIC DIR`.

A topic is a module with one function:

    def cases(directory: VectorDirectory, resources: ExitStack) -> Iterable[Case]

It reads what the manifest lists (`files.VectorDirectory`: nothing outside the directory, every
SHA-256 checked), picks a parser by each file's shape and yields a `case.Case` for every case.
It never looks at a case's name or expected verdict to decide anything: `Case.run` takes no
argument and returns what the product did; `Case.agrees` alone sees the expected value.

- `cases` raises `MalformedError` for a bad manifest, a wrong digest, a listed file of no known
  shape or a case that does not say what it should: the command then exits with 13.
- `Case.run` lets nothing out but bugs: any exception it raises is reported as a crash, and a
  crash or a timeout is never ok.  `case.accept_or_reject` turns a refusal into a verdict.
- Whatever has to be started (a gateway, an engine) is started lazily by the first `run` and
  registered with `resources`, which is closed when the worker ends.
- All of this runs in a worker process: one that dies or hangs costs one case, not the run.

`topics.TOPICS` maps a topic's name to the dotted name of its module.  Other packages pass
their own table beside it, on the same interface.
"""
