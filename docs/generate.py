"""Put the generated tables into docs/: `just docs`. Tests compare them: a stale one fails the build."""

import sys
from pathlib import Path

import trio

from jiemi.core.api.doc_tables import api_table, reasons_table, with_tables

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    from hostile.catalogue import table as hostile_table
    from mistakes.catalogue import table as mistakes_table
    from rpc.port_attacks import table as port_table
    from support.krapao.provider_matrix import matrix_table
    from support.monitoring.examples import krapao_metrics, metrics_table, miwen_metrics, page
    from support.monitoring.rules import PROMETHEUS_RULE, alerts_table, prometheus_rule

    operations = {
        "port": port_table(),
        "miwen-metrics": metrics_table(page(miwen_metrics())),
        "krapao-metrics": metrics_table(page(trio.run(krapao_metrics))),
        "alerts": alerts_table(),
    }
    for path, tables in (
        (ROOT / "docs" / "api.md", {"api": api_table()}),
        (ROOT / "docs" / "decryption.md", {"matrix": matrix_table()}),
        (ROOT / "docs" / "operations.md", operations),
        (ROOT / "docs" / "hostile-repository.md", {"hostile": hostile_table()}),
        (ROOT / "docs" / "troubleshooting.md", {"mistakes": mistakes_table(), "reasons": reasons_table()}),
    ):
        path.write_text(with_tables(path.read_text(), tables))
    PROMETHEUS_RULE.write_text(prometheus_rule())
