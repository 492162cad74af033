//! A group's row: which machine it belongs to, and its state as bytes.
//!
//! Layout: `version u8 = 1, kind u8, state`. What follows the kind is that machine's business.

use bytes::Bytes;

use super::classic::{self, ClassicGroup};
use super::wire::{BodyError, Reader, Writer};

const VERSION: u8 = 1;
const CLASSIC: u8 = 0;

/// A group of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupState {
    Classic(ClassicGroup),
}

impl Default for GroupState {
    fn default() -> Self {
        GroupState::Classic(ClassicGroup::default())
    }
}

impl GroupState {
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.byte(VERSION);
        match self {
            GroupState::Classic(group) => {
                out.byte(CLASSIC);
                classic::encode(group, &mut out);
            }
        }
        out.finish()
    }

    /// Reads what [`GroupState::encode`] wrote. Texts and bytes share `body`.
    ///
    /// # Errors
    /// [`BodyError`] if it is something else; memory is taken only for what the bytes really hold.
    pub fn decode(body: Bytes) -> Result<GroupState, BodyError> {
        let mut body = Reader::new(body);
        match body.byte()? {
            VERSION => {}
            unknown => return Err(BodyError::Version(unknown)),
        }
        let state = match body.byte()? {
            CLASSIC => GroupState::Classic(classic::decode(&mut body)?),
            _ => return Err(BodyError::Nonsense("an unknown kind of group")),
        };
        body.finish()?;
        Ok(state)
    }
}
