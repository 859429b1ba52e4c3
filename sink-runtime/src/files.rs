//! Open files: rows in, encoded bytes out to staged uploads, sealed by the rotation rules and the memory budget.
