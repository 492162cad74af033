//! What S3 says went wrong, put into the store's words.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::store::StoreError;
use crate::types::{ByteRange, ObjectId};

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    NoSuchKey,
    InvalidRange,
    NoSuchBucket,
    Full(String),
    Refused(String),
    Unavailable(String),
}

const CREDENTIALS: &str = "check YAKS_S3_ACCESS_KEY, YAKS_S3_SECRET_KEY and what they may do";
const BUCKET: &str = "check YAKS_S3_BUCKET";
const PLACE: &str = "check YAKS_S3_REGION, YAKS_S3_ENDPOINT and YAKS_S3_PATH_STYLE";
const SIGNING: &str = "check YAKS_S3_PAYLOAD_SIGNING";
const CLOCK: &str = "check this machine's clock";

/// Codes that no retry cures, and what to look at. S3's error codes are strings on the wire; this is the one place that reads them.
const REFUSED: [(&str, &str); 19] = [
    ("AccessDenied", CREDENTIALS),
    ("AccountProblem", CREDENTIALS),
    ("AllAccessDisabled", CREDENTIALS),
    ("ExpiredToken", CREDENTIALS),
    ("Forbidden", CREDENTIALS),
    ("InvalidAccessKeyId", CREDENTIALS),
    ("InvalidToken", CREDENTIALS),
    ("NotSignedUp", CREDENTIALS),
    ("SignatureDoesNotMatch", CREDENTIALS),
    ("TokenRefreshRequired", CREDENTIALS),
    ("UnauthorizedAccess", CREDENTIALS),
    ("InvalidBucketName", BUCKET),
    ("AuthorizationHeaderMalformed", PLACE),
    ("IllegalLocationConstraintException", PLACE),
    ("PermanentRedirect", PLACE),
    ("MethodNotAllowed", PLACE),
    ("XAmzContentSHA256Mismatch", SIGNING),
    ("NotImplemented", SIGNING),
    ("RequestTimeTooSkewed", CLOCK),
];

impl Failure {
    /// For a request on the bucket as a whole.
    pub(super) fn on_bucket(self, bucket: &str) -> StoreError {
        match self {
            Failure::NoSuchBucket | Failure::NoSuchKey => StoreError::Refused(format!("bucket {bucket} does not exist: {BUCKET}")),
            Failure::InvalidRange => StoreError::Unavailable("an answer about a range that was not asked for".to_owned()),
            Failure::Full(why) => StoreError::Full(why),
            Failure::Refused(why) => StoreError::Refused(why),
            Failure::Unavailable(why) => StoreError::Unavailable(why),
        }
    }

    /// For a request about a range of one object.
    pub(super) fn on_range(self, bucket: &str, object: ObjectId, range: ByteRange) -> StoreError {
        match self {
            Failure::NoSuchKey => StoreError::NotFound(object),
            Failure::InvalidRange => StoreError::OutOfRange { object, range },
            Failure::NoSuchBucket | Failure::Full(_) | Failure::Refused(_) | Failure::Unavailable(_) => self.on_bucket(bucket),
        }
    }
}

/// Reads an SDK error.
pub(super) fn classify<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> Failure {
    let status = error.raw_response().map(|response| response.status().as_u16());
    match (error.code(), status) {
        (Some("NoSuchKey"), _) => Failure::NoSuchKey,
        (Some("NoSuchBucket"), _) => Failure::NoSuchBucket,
        (Some(code), _) if hint(code).is_some() => Failure::Refused(told(error, hint(code).unwrap_or_default())),
        (_, Some(416)) => Failure::InvalidRange,
        // An answer to HEAD has no body, so the status is all there is.
        (_, Some(404)) => Failure::NoSuchKey,
        (_, Some(507)) => Failure::Full(told(error, "make room in the store")),
        (_, Some(401 | 403)) => Failure::Refused(told(error, CREDENTIALS)),
        (_, Some(301 | 307 | 308 | 405)) => Failure::Refused(told(error, PLACE)),
        (None, Some(status)) => Failure::Unavailable(format!("S3 answered with status {status} and did not say why")),
        (_, Some(_)) => Failure::Unavailable(DisplayErrorContext(error).to_string()),
        (_, None) => unanswered(error),
    }
}

/// Whether one key of a multi-object delete failed for good; codes as in [`classify`].
pub(super) fn refuses(code: &str) -> bool {
    hint(code).is_some()
}

fn hint(code: &str) -> Option<&'static str> {
    REFUSED.iter().find(|(known, _)| *known == code).map(|(_, hint)| *hint)
}

/// There was no answer: not sent, not reached or too slow.
fn unanswered<E: Error + 'static>(error: &SdkError<E>) -> Failure {
    match credentials_error(error) {
        Some(CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)) => {
            let how = "set YAKS_S3_ACCESS_KEY and YAKS_S3_SECRET_KEY, or give the AWS SDK credentials";
            Failure::Refused(format!("there are no usable credentials: {how}: {}", DisplayErrorContext(error)))
        }
        Some(_) | None => Failure::Unavailable(DisplayErrorContext(error).to_string()),
    }
}

fn credentials_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e CredentialsError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The answer in a few words: code and message, and what to look at.
fn told<E: ProvideErrorMetadata>(error: &SdkError<E>, hint: &str) -> String {
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let (code, message) = (error.code().unwrap_or("no code"), error.message().unwrap_or("no message"));
    format!("S3 answered {status} {code} ({message}): {hint}")
}
