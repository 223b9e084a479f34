//! What can be tested without compilers.
