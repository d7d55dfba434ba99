//! The text of a scenario file: its entries and their positions, the types of values, and the
//! errors that point to a line.

pub(crate) mod document;
pub(crate) mod error;
pub(crate) mod value;
