//! What runs beside the traffic: this agent's lease, who the others are, and small sweeps any agent may do at any time.
//!
//! A sweep looks at the whole state, takes a bounded piece and says whether more is left; the path after a crash is the path of every day.
//! Two agents that sweep at once do each other no harm.

mod lease;
mod members;
mod sweep;

pub use lease::{Lease, LeaseConfig, LeaseError};
pub use members::Membership;
pub use sweep::{SweepConfig, SweepParts, start_sweeps};
