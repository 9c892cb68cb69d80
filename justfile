# The recipes of the project: `just` comes with the Python packages, as .venv/bin/just.

set positional-arguments

# Where it is set, as in many images, each process that a test starts would compile all of Jiemi once more.
export PYTHONDONTWRITEBYTECODE := ""

bin := justfile_directory() / ".venv" / "bin"

import 'deploy/kind/kind.just'

_list:
    @{{ just_executable() }} --list --unsorted

# Make .venv with everything in it
setup:
    python3 -m venv .venv
    .venv/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'

# Run everything on this machine: a cluster, a demo repository, Krapao, Miwen [--cluster auto|kind|current|embedded|node] [--exit-after-sync]
[no-exit-message]
run-all *arguments:
    @"{{ bin }}/jiemi" run-all "$@"

# All tests; the first run on a machine builds etcd, kube-apiserver, kube-controller-manager and sops
test *arguments:
    @"{{ bin }}/jiemi" tools
    @"{{ bin }}/pytest" --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"

# The quick ones among the tests that need no real etcd, kube-apiserver, sops or gpg: for while you work
test-fast *arguments:
    @"{{ bin }}/pytest" --quiet -p no:logging --numprocesses auto --maxprocesses 4 --hypothesis-profile fast -m "not e2e and not slow and not soak" \
        tests/core tests/concurrency tests/cli tests/miwen tests/rpc "$@"

# Fuzz what reads hostile bytes: SECONDS [TARGET] [SEED]; tests/fuzz has the targets
fuzz *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m fuzz.run "$@"

# Decryption against a Vault or OpenBao of your own: set JIEMI_TEST_VAULT_ADDR and JIEMI_TEST_VAULT_TOKEN
test-vault *arguments:
    @"{{ bin }}/pytest" tests/real/real_vault.py "$@"

# Pods of deploy/ on a real kubelet, on this machine, without a container engine: as root, on Debian or Ubuntu
test-pods *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m pods.run "$@"

# ssh against OpenSSH's own server with git-shell: as root, on Debian or Ubuntu
test-sshd *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m krapao.sshd.run "$@"

# Both images built twice: the same bytes each time, and a valid SBOM; as root, on Debian or Ubuntu, without a container engine
test-images *arguments:
    @"{{ bin }}/pytest" tests/images/images_twice.py tests/images/images_sbom.py "$@"

# A CycloneDX SBOM of each image, into dist/sbom [FOLDER]; needs what test-images does
sbom *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m images.sbom "$@"

# Everything that can be checked without running: ruff, mypy, the import directions, plain words, links
lint:
    @"{{ bin }}/ruff" check .
    @"{{ bin }}/ruff" format --check .
    @"{{ bin }}/mypy"
    @"{{ bin }}/lint-imports"
    @"{{ bin }}/python" docs/words.py
    @"{{ bin }}/python" docs/links.py

# Put the source into its form
fmt:
    @"{{ bin }}/ruff" check --fix --select I .
    @"{{ bin }}/ruff" format .

# Generate deploy/crd.yaml from the API's classes
crd: && chart
    @"{{ bin }}/jiemi" crd > deploy/crd.yaml

# Copy deploy/ into the Helm chart, which renders it
chart:
    @"{{ bin }}/python" deploy/helm/copy_files.py

# Generate the tables of docs/
docs:
    @"{{ bin }}/python" docs/generate.py

# Measure a call between Miwen and Krapao
bench-rpc *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.bench_rpc "$@"

# Measure how many Decryptors of one repository are deployed: time, CPU, memory [COUNT]
bench-follow *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.bench_follow "$@"

# Measure what a push costs that changes one file of many: from webhook to Secret, and CPU [DECRYPTORS [PUSHES]]
bench-push *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.bench_push "$@"

# Measure what a large repository costs, beside git itself [FILES [COMMITS [TRIALS]]]
bench-large *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.bench_large "$@"

# Measure whether other hosts' repositories are late beside a slow host [DECRYPTORS [SECONDS]]
bench-slow-host *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.bench_slow_host "$@"

# Measure how fast a push is followed beside tenants whose hosts drip [DECRYPTORS [TENANTS]]
bench-tenants *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.bench_tenants "$@"

# Measure what attacks cost and what an honest tenant waits for meanwhile, under the shipped roles and limits [NAME...]
bench-attacks *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.bench_attacks "$@"

# Measure what strangers at Krapao's port cost, and what an honest client waits for meanwhile [NAME...]
bench-port *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.bench_port "$@"

# Measure how fast what others do to Secrets is put right [TRIALS]
bench-drift *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.bench_drift "$@"

# Measure how soon each ordinary mistake of docs/troubleshooting.md is reported
bench-mistakes *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.bench_mistakes "$@"

# Kill Miwen at random moments during a churn of commits; each time the cluster must end as git is [KILLS] [SEED]
soak-kill *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m bench.soak_kill "$@"

# Pods killed, ended and cut off, and certificates rotated, during a churn of commits; as test-pods [KILLS] [ROTATIONS]
soak-pods *arguments:
    @PYTHONPATH=tests "{{ bin }}/python" -m pods.soak "$@"

# Greedy namespaces of every kind beside an honest one, under Miwen's shipped memory limit
soak-memory *arguments:
    @"{{ bin }}/pytest" -m "soak or not soak" -s tests/e2e/test_memory_of_miwen.py "$@"

# Krapao killed 200 times in the middle of fetches, and bits of its clones flipped; each answer must be git's
soak-store *arguments:
    @"{{ bin }}/pytest" -m "soak or not soak" tests/krapao/git/test_killed_fetches.py tests/krapao/git/test_flipped_bits.py "$@"

# Remove what was made in this checkout (the cache of tools stays)
clean:
    rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
    find . -name __pycache__ -type d -prune -exec rm -rf {} +
