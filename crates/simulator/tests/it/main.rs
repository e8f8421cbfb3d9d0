//! What the simulator counts is what real nodes count, with a real Redis and a real PostgreSQL.

mod formulas;
mod service;
mod traces;
