"""PyIceberg and pyarrow behind the line protocol. Requests: {"code": text, "args": value}.

The code finds `args`, `load(catalog, table)`, `catalog(description)` and `parquet_meta(path)`, and leaves its answer in
`result`.
"""

import json
import sys

import pyarrow.parquet as parquet
from pyarrow import fs
from pyiceberg.catalog import load_catalog
from pyiceberg.table import StaticTable

import protocol

settings = json.loads(sys.argv[1])


def s3_properties(access):
    return {
        "s3.endpoint": access["endpoint"],
        "s3.access-key-id": access["access_key"],
        "s3.secret-access-key": access["secret_key"],
        "s3.region": access["region"],
        "s3.force-virtual-addressing": "false",
    }


def catalog(description):
    """{"kind": "rest", "uri": …} or {"kind": "glue"}; tables on the lab's S3 unless `s3` says "ministack"."""
    properties = s3_properties(settings[description.get("s3") or "s3"])
    if description["kind"] == "rest":
        return load_catalog("lab", type="rest", uri=description.get("uri") or settings["iceberg_rest"], **properties)
    glue = settings["ministack"]
    return load_catalog(
        "lab",
        type="glue",
        **{
            "glue.endpoint": glue["endpoint"],
            "glue.region": glue["region"],
            "glue.access-key-id": glue["access_key"],
            "glue.secret-access-key": glue["secret_key"],
        },
        **properties,
    )


def load(description, table):
    """A table of a catalog; kind "metadata" reads the metadata file named by `table`."""
    if description["kind"] == "metadata":
        return StaticTable.from_metadata(table, s3_properties(settings[description.get("s3") or "s3"]))
    return catalog(description).load_table(table)


def parquet_meta(path):
    """Footer of a Parquet file: `s3://bucket/key`, or a local path."""
    if path.startswith("s3://"):
        access = settings["s3"]
        store = fs.S3FileSystem(
            access_key=access["access_key"],
            secret_key=access["secret_key"],
            region=access["region"],
            endpoint_override=access["endpoint"],
        )
        file = parquet.ParquetFile(store.open_input_file(path.removeprefix("s3://")))
    else:
        file = parquet.ParquetFile(path)
    meta = file.metadata
    return {
        "rows": meta.num_rows,
        "created_by": meta.created_by,
        "schema": [
            {
                "path": column.path,
                "physical": column.physical_type,
                "logical": str(column.logical_type),
            }
            for column in (meta.schema.column(i) for i in range(meta.num_columns))
        ],
        "field_ids": {
            field.name: (field.metadata or {}).get(b"PARQUET:field_id", b"").decode() for field in file.schema_arrow
        },
        "key_values": {
            key.decode(): value.decode(errors="replace") for key, value in (meta.metadata or {}).items()
        },
        "row_groups": [
            {
                "rows": group.num_rows,
                "bytes": group.total_byte_size,
                "columns": [column_chunk(group.column(i)) for i in range(group.num_columns)],
            }
            for group in (meta.row_group(i) for i in range(meta.num_row_groups))
        ],
    }


def column_chunk(chunk):
    statistics = chunk.statistics
    return {
        "path": chunk.path_in_schema,
        "compression": chunk.compression,
        "encodings": list(chunk.encodings),
        "min": statistics.min if statistics and statistics.has_min_max else None,
        "max": statistics.max if statistics and statistics.has_min_max else None,
        "nulls": statistics.null_count if statistics and statistics.has_null_count else None,
    }


def handle(request):
    names = {"args": request.get("args"), "catalog": catalog, "load": load, "parquet_meta": parquet_meta}
    exec(request["code"], names)
    return names.get("result")


protocol.serve(handle)
