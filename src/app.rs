//! The only place where parts meet: builds all, spawns all, owns the order of shutdown.

mod rooms;

pub use rooms::{RoomParts, Rooms};
