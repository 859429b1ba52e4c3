//! Schema -> Arrow. (Its way back, for inferred schemas, too.)
