//! The text of a scenario file: its entries and where they stand, values of the right kind, and messages
//! that point to the line that is wrong.

pub(crate) mod document;
pub(crate) mod error;
pub(crate) mod value;
