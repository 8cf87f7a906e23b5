"""ClickHouse's engine in this process (chdb): runs statements, and prints what queries say as a list of JSON texts.

in_process.py FILE    a JSON object with `statements` and `queries`
"""

import json
import pathlib
import sys

from chdb import session

database = session.Session()
work = json.loads(pathlib.Path(sys.argv[1]).read_text())
for statement in work["statements"]:
    database.query(statement)
print(json.dumps([str(database.query(query, "TSV")) for query in work["queries"]]))
