//! Each rule of the machine, and random scripts.

mod clients;
mod joining;
mod leaving;
mod random;
mod scene;
mod statics;
mod syncing;
