//! Objects in a bucket of S3, or of a store that speaks its protocol.
//!
//! A put streams the pieces it was given and sends their CRC-32C along; S3 refuses bytes that do not match it, so a put that returned stored what was meant.
//! The checksum is a header, not a trailer: the body then travels as it is, with its exact length, which every compatible store understands. The payload is
//! not signed unless the configuration asks for it: hashing costs three times what all the rest of a put costs.

mod body;
mod error;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Region, ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig};
use aws_sdk_s3::operation::create_bucket::CreateBucketError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration, Delete, Object, ObjectIdentifier};
use aws_smithy_http_client::tls;
use bytes::Bytes;

use super::{Listed, ObjectBody, ObjectStore, StoreError};
use crate::types::{ByteRange, DATA_PREFIX, ObjectId};
use error::{Failure, classify};

/// S3's limit for one DeleteObjects request.
const DELETE_AT_ONCE: usize = 1_000;
/// Idle connections are dropped before servers usually do it, so that few requests meet a closed one.
const IDLE_CONNECTION: Duration = Duration::from_secs(15);

/// Where the bucket is and how to speak to it.
#[derive(Clone)]
pub struct S3Config {
    /// `None`: AWS, by region.
    pub endpoint: Option<String>,
    pub region: String,
    /// Both keys empty: the AWS SDK's default chain (environment, profile, web identity, container, instance).
    pub access_key: String,
    pub secret_key: String,
    pub path_style: bool,
    pub bucket: String,
    /// Whether puts carry a signature over their bytes, for stores that insist.
    pub payload_signing: bool,
    pub timeouts: S3Timeouts,
}

/// How long S3 may take.
#[derive(Debug, Clone, Copy)]
pub struct S3Timeouts {
    pub connect: Duration,
    /// One try, from the request's first byte to the answer's headers.
    pub attempt: Duration,
    /// A whole call, with its retry and the answer's body.
    pub operation: Duration,
}

impl Default for S3Timeouts {
    fn default() -> Self {
        S3Timeouts { connect: Duration::from_secs(3), attempt: Duration::from_secs(10), operation: Duration::from_secs(25) }
    }
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let S3Config { endpoint, region, bucket, path_style, payload_signing, timeouts, access_key: _, secret_key: _ } = self;
        f.debug_struct("S3Config")
            .field("endpoint", endpoint)
            .field("region", region)
            .field("bucket", bucket)
            .field("path_style", path_style)
            .field("payload_signing", payload_signing)
            .field("timeouts", timeouts)
            .finish_non_exhaustive()
    }
}

/// A store in a bucket.
#[derive(Debug)]
pub struct S3Store {
    client: Client,
    config: S3Config,
}

impl S3Store {
    /// Prepares a client. Sends nothing to S3 yet, but may ask the environment for credentials.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if only one of the two keys is set.
    pub async fn new(config: S3Config) -> Result<S3Store, StoreError> {
        let builder = match (config.access_key.as_str(), config.secret_key.as_str()) {
            ("", "") => default_credentials(&config).await,
            ("", _) => return Err(StoreError::Refused("YAKS_S3_SECRET_KEY is set but YAKS_S3_ACCESS_KEY is empty".to_owned())),
            (_, "") => return Err(StoreError::Refused("YAKS_S3_ACCESS_KEY is set but YAKS_S3_SECRET_KEY is empty".to_owned())),
            (access, secret) => Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .http_client(http_client(&config))
                .credentials_provider(Credentials::new(access, secret, None, None, "yaks")),
        };
        Ok(S3Store { client: Client::from_conf(configured(builder, &config)), config })
    }

    /// Creates the bucket if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it may not be looked at or made, [`StoreError::Unavailable`] if S3 cannot be reached.
    pub async fn ensure_bucket(&self) -> Result<(), StoreError> {
        match self.head_bucket().await? {
            Ok(()) => return Ok(()),
            Err(Failure::NoSuchKey | Failure::NoSuchBucket) => {}
            Err(failure) => return Err(failure.on_bucket(&self.config.bucket)),
        }
        // us-east-1 is the place of a bucket that names none, and must not be named.
        let place = (self.config.region != "us-east-1").then(|| {
            CreateBucketConfiguration::builder().location_constraint(BucketLocationConstraint::from(self.config.region.as_str())).build()
        });
        let request = self.client.create_bucket().bucket(&self.config.bucket).set_create_bucket_configuration(place);
        match self.in_time(request.send()).await? {
            Ok(_) => Ok(()),
            // Another agent made it meanwhile.
            Err(error) if error.as_service_error().is_some_and(CreateBucketError::is_bucket_already_owned_by_you) => Ok(()),
            Err(error) => Err(classify(&error).on_bucket(&self.config.bucket)),
        }
    }

    async fn head_bucket(&self) -> Result<Result<(), Failure>, StoreError> {
        let answer = self.in_time(self.client.head_bucket().bucket(&self.config.bucket).send()).await?;
        Ok(answer.map(|_| ()).map_err(|error| classify(&error)))
    }

    /// Every request goes through here: the SDK's own limits end with the answer's headers.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, StoreError> {
        let limit = self.config.timeouts.operation;
        tokio::time::timeout(limit, work)
            .await
            .map_err(|_| StoreError::Unavailable(format!("{} did not answer within {limit:?}", self.place())))
    }

    async fn read(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        let last = range.start.saturating_add(range.len) - 1;
        let request = self.client.get_object().bucket(&self.config.bucket).key(object.key());
        let answer = request.range(format!("bytes={}-{last}", range.start)).send().await;
        let answer = answer.map_err(|error| classify(&error).on_range(&self.config.bucket, object, range))?;
        collect(answer.body, range.len).await
    }

    async fn delete_some(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        let identifiers = objects.iter().map(|id| ObjectIdentifier::builder().key(id.key()).build());
        let delete =
            identifiers.collect::<Result<Vec<_>, _>>().and_then(|ids| Delete::builder().set_objects(Some(ids)).quiet(true).build());
        let delete = delete.map_err(|error| StoreError::Unavailable(format!("the request cannot be built: {error}")))?;
        let request = self.client.delete_objects().bucket(&self.config.bucket).delete(delete);
        let answer = self.in_time(request.send()).await?.map_err(|error| classify(&error).on_bucket(&self.config.bucket))?;
        let missed: Vec<_> = answer.errors().iter().filter(|e| e.code() != Some("NoSuchKey")).collect();
        let Some(first) = missed.first() else { return Ok(()) };
        let (code, key) = (first.code().unwrap_or("no code"), first.key().unwrap_or("no key"));
        let why = format!("{} of {} objects were not deleted, the first, {key}, because of {code}", missed.len(), objects.len());
        if error::refuses(code) { Err(StoreError::Refused(why)) } else { Err(StoreError::Unavailable(why)) }
    }

    fn place(&self) -> String {
        let endpoint = self.config.endpoint.as_deref().map_or_else(|| format!("AWS {}", self.config.region), str::to_owned);
        format!("S3 bucket {} at {endpoint}", self.config.bucket)
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, object: ObjectId, body: ObjectBody) -> Result<(), StoreError> {
        let checksum = crc32c(body.pieces());
        let len = i64::try_from(body.len()).unwrap_or(i64::MAX);
        let request = self.client.put_object().bucket(&self.config.bucket).key(object.key()).content_length(len);
        let request = request.checksum_crc32_c(&checksum);
        let answer = if self.config.payload_signing {
            self.in_time(Box::pin(request.body(body::joined(&body)).send())).await?
        } else {
            self.in_time(Box::pin(request.body(body::streamed(body)).customize().disable_payload_signing().send())).await?
        };
        let answer = answer.map_err(|error| classify(&error).on_bucket(&self.config.bucket))?;
        match answer.checksum_crc32_c() {
            Some(stored) if stored != checksum => {
                Err(StoreError::Unavailable(format!("object {object} was stored with checksum {stored} instead of {checksum}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn get_up_to(&self, object: ObjectId, range: ByteRange) -> Result<Vec<Bytes>, StoreError> {
        if range.len == 0 {
            return Ok(Vec::new());
        }
        self.in_time(self.read(object, range)).await?
    }

    async fn delete(&self, objects: &[ObjectId]) -> Result<(), StoreError> {
        for some in objects.chunks(DELETE_AT_ONCE) {
            self.delete_some(some).await?;
        }
        Ok(())
    }

    async fn list(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<Listed>, StoreError> {
        let mut listed = Vec::new();
        let mut start_after = after.as_ref().map(ObjectId::key);
        while listed.len() < limit {
            let request = self.client.list_objects_v2().bucket(&self.config.bucket).prefix(DATA_PREFIX);
            let wanted = i32::try_from(limit - listed.len()).unwrap_or(i32::MAX);
            let request = request.set_start_after(start_after).max_keys(wanted);
            let page = self.in_time(request.send()).await?.map_err(|error| classify(&error).on_bucket(&self.config.bucket))?;
            listed.extend(page.contents().iter().filter_map(known));
            start_after = page.contents().last().and_then(Object::key).map(str::to_owned);
            if page.is_truncated() != Some(true) || start_after.is_none() {
                break;
            }
        }
        Ok(listed)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.head_bucket().await?.map_err(|failure| failure.on_bucket(&self.config.bucket))
    }

    fn describe(&self) -> String {
        self.place()
    }
}

/// `None` for a key that is not one of ours.
fn known(listed: &Object) -> Option<Listed> {
    let object = ObjectId::from_key(listed.key()?)?;
    Some(Listed { object, bytes: u64::try_from(listed.size()?).ok()? })
}

/// The pieces of an answer, at most `len` bytes: more means that the store did not heed the range.
async fn collect(mut answer: ByteStream, len: u64) -> Result<Vec<Bytes>, StoreError> {
    let (mut pieces, mut got) = (Vec::new(), 0);
    while let Some(piece) = answer.next().await {
        let piece = piece.map_err(|error| StoreError::Unavailable(format!("the answer broke off after {got} bytes: {error}")))?;
        got += piece.len() as u64;
        if got > len {
            return Err(StoreError::Unavailable(format!("more than the {len} bytes that were asked for")));
        }
        pieces.push(piece);
    }
    Ok(pieces)
}

/// CRC-32C of all pieces, in base64, as S3 wants it.
fn crc32c(pieces: &[Bytes]) -> String {
    let crc = pieces.iter().fold(0, |crc, piece| crc32c::crc32c_append(crc, piece));
    aws_smithy_types::base64::encode(crc.to_be_bytes())
}

/// Plain HTTP and HTTPS with rustls, with `TCP_NODELAY` (the builder's default).
fn http_client(config: &S3Config) -> SharedHttpClient {
    let plain = config.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    // The default credential chain may ask AWS over HTTPS even if the bucket is elsewhere.
    let trust = tls::TrustStore::empty().with_native_roots(!plain || config.access_key.is_empty());
    let builder = aws_smithy_http_client::Builder::new().pool_idle_timeout(IDLE_CONNECTION);
    let builder = builder.tls_provider(tls::Provider::rustls(tls::rustls_provider::CryptoMode::Ring));
    match tls::TlsContext::builder().with_trust_store(trust).build() {
        Ok(context) => builder.tls_context(context).build_https(),
        Err(_) => builder.build_https(),
    }
}

async fn default_credentials(config: &S3Config) -> Builder {
    let region = Region::new(config.region.clone());
    let loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http_client(config)).region(region);
    Builder::from(&loader.load().await)
}

fn configured(builder: Builder, config: &S3Config) -> aws_sdk_s3::Config {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.timeouts.connect)
        .operation_attempt_timeout(config.timeouts.attempt)
        .operation_timeout(config.timeouts.operation)
        .build();
    // One retry, for connections that died in the pool; more is for those who know what the request is worth.
    let retry = RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(50));
    let builder = builder
        .region(Region::new(config.region.clone()))
        .force_path_style(config.path_style)
        .timeout_config(timeouts)
        .retry_config(retry)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // Ranges carry no checksum that could be validated; batches have their own.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    match &config.endpoint {
        Some(endpoint) => builder.endpoint_url(endpoint).build(),
        None => builder.build(),
    }
}
