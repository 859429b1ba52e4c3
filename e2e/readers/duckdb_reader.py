"""DuckDB behind the line protocol. Requests: {"sql": text}; answers: the rows."""

import importlib
import json
import pathlib
import sys

import duckdb

import protocol


def extension(name):
    package = pathlib.Path(importlib.import_module(f"duckdb_extension_{name}").__file__).parent
    return next(package.glob(f"extensions/*/{name}.duckdb_extension"))


def connect(settings):
    offline = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    connection = duckdb.connect(config=offline)
    # iceberg needs the two others loaded before it.
    for name in ("httpfs", "avro", "iceberg"):
        connection.execute(f"LOAD '{extension(name)}'")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        f"CREATE SECRET lab (TYPE s3, KEY_ID '{settings['access_key']}', SECRET '{settings['secret_key']}', "
        f"REGION '{settings['region']}', ENDPOINT '{settings['host']}', URL_STYLE 'path', USE_SSL false)"
    )
    if settings.get("catalog"):
        connection.execute(
            f"ATTACH '' AS ice (TYPE ICEBERG, ENDPOINT '{settings['catalog']}', AUTHORIZATION_TYPE 'none')"
        )
    return connection


connection = connect(json.loads(sys.argv[1]))
protocol.serve(lambda request: connection.execute(request["sql"]).fetchall())
