//! Placeholder written by the scaffold; its owner replaces it in the first slice.
