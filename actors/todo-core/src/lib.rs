//! What the to-do actors have in common: values, the messages between them, and the decisions
//! that need neither actors nor a clock of their own, so that they are tested natively.
//!
//! Contract: everything here is a function of its arguments; time and randomness are passed in.
//! It knows no actor, no node and no storage: those are the business of the components
//! `todo-web`, `todo-cache`, `todo-server` and `todo-database`.
//!
//! Why an acknowledged entry is never lost, in one place:
//!
//! 1. An add is one immutable [`record::Record`] with an identity that is never used twice: the
//!    origin is drawn anew at each start of a database worker, and the worker numbers its records
//!    within it. Sets of records therefore merge by union, in any order, any number of times.
//! 2. It is acknowledged only when the worker of the node that took it has written it durably,
//!    and every other connected node has done so too or has been given up on by name.
//! 3. Nothing ever deletes or overwrites a record, and workers of the same index on two nodes
//!    tell each other what they have ([`log::Have`]) whenever they meet and every few seconds, so
//!    each gets what it lacks.
//! 4. A to-do server is only a view of its local worker's records: it starts from them, and is
//!    told when records come that it did not write itself.

pub mod agenda;
pub mod api;
pub mod date;
pub mod form;
pub mod freshness;
pub mod list;
pub mod log;
pub mod messages;
pub mod record;
pub mod records;
pub mod server;
pub mod worker;
