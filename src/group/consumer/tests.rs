//! Each rule of the machine, and members that behave as real ones do, at random.

mod assigning;
mod changing;
mod members;
mod rules;
mod scene;
