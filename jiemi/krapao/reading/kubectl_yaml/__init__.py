"""Plain manifests, read as kubectl reads them: YAML 1.1 as go.yaml.in/yaml/v2 understands it, and JSON.

    stream    a file -> its documents, by kubectl's rules for lines; the public function is `read_stream`
    scanner   text -> tokens
    parser    tokens -> nodes, of the first document in a text
    scalars   the value of one scalar
    values    nodes -> JSON values; counts what is built

All of it is Python, because it reads hostile bytes in a process that also holds credentials.
"""
