//! A small S3 back end that keeps its server out of the way of a benchmark: objects in memory or in files, sent in pieces of 256 KiB.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body::{Frame, SizeHint};
use s3s::dto::{
    CreateBucketInput, CreateBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListObjectsV2Input,
    ListObjectsV2Output, Object, PutObjectInput, PutObjectOutput, StreamingBlob,
};
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

const PIECE: usize = 256 * 1024;

/// Bucket and key, as one sorted name.
type Name = String;

pub struct Backend {
    objects: Arc<Objects>,
}

struct Objects {
    place: Place,
    next_temporary: AtomicU64,
}

enum Place {
    Memory(RwLock<BTreeMap<Name, Vec<Bytes>>>),
    Directory(PathBuf),
}

impl Backend {
    pub fn in_memory(bucket: &str) -> Backend {
        let objects = BTreeMap::from([(format!("{bucket}/"), Vec::new())]);
        Backend::new(Place::Memory(RwLock::new(objects)))
    }

    pub fn in_directory(dir: &Path, bucket: &str) -> io::Result<Backend> {
        fs::create_dir_all(dir.join(bucket))?;
        Ok(Backend::new(Place::Directory(dir.to_owned())))
    }

    fn new(place: Place) -> Backend {
        Backend { objects: Arc::new(Objects { place, next_temporary: AtomicU64::new(0) }) }
    }

    /// Files are handled where it may block, memory at once.
    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&Objects) -> T + Send + 'static) -> T {
        match self.objects.place {
            Place::Memory(_) => work(&self.objects),
            Place::Directory(_) => {
                let objects = Arc::clone(&self.objects);
                tokio::task::spawn_blocking(move || work(&objects)).await.expect("file work")
            }
        }
    }
}

impl Objects {
    fn store(&self, name: &str, pieces: Vec<Bytes>) -> io::Result<()> {
        match &self.place {
            Place::Memory(objects) => {
                objects.write().expect("objects").insert(name.to_owned(), pieces);
                Ok(())
            }
            Place::Directory(dir) => {
                let path = dir.join(name);
                let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
                let temporary = dir.join(format!(".put-{}-{number}", std::process::id()));
                fs::create_dir_all(path.parent().unwrap_or(dir))?;
                let mut file = fs::File::create(&temporary)?;
                for piece in &pieces {
                    file.write_all(piece)?;
                }
                fs::rename(temporary, path)
            }
        }
    }

    /// The object's length, and the bytes that `cut` wants of it.
    fn load(&self, name: &str, cut: impl FnOnce(u64) -> S3Result<(u64, u64)>) -> S3Result<(u64, u64, Vec<Bytes>)> {
        match &self.place {
            Place::Memory(objects) => {
                let objects = objects.read().expect("objects");
                let pieces = objects.get(name).ok_or_else(|| s3_error!(NoSuchKey))?;
                let len = pieces.iter().map(|p| p.len() as u64).sum();
                let (start, end) = cut(len)?;
                Ok((len, start, pieces_of(pieces, start, end)))
            }
            Place::Directory(dir) => {
                let mut file = fs::File::open(dir.join(name)).map_err(|_| s3_error!(NoSuchKey))?;
                let len = file.metadata().map_err(internal)?.len();
                let (start, end) = cut(len)?;
                file.seek(SeekFrom::Start(start)).map_err(internal)?;
                let mut bytes = Vec::with_capacity((end - start) as usize);
                file.take(end - start).read_to_end(&mut bytes).map_err(internal)?;
                Ok((len, start, vec![bytes.into()]))
            }
        }
    }

    fn remove(&self, name: &str) {
        match &self.place {
            Place::Memory(objects) => drop(objects.write().expect("objects").remove(name)),
            // One that is not there is removed.
            Place::Directory(dir) => drop(fs::remove_file(dir.join(name))),
        }
    }

    fn has_bucket(&self, bucket: &str) -> bool {
        match &self.place {
            Place::Memory(objects) => objects.read().expect("objects").contains_key(&format!("{bucket}/")),
            Place::Directory(dir) => dir.join(bucket).is_dir(),
        }
    }

    fn make_bucket(&self, bucket: &str) -> io::Result<()> {
        match &self.place {
            Place::Memory(_) => self.store(&format!("{bucket}/"), Vec::new()),
            Place::Directory(dir) => fs::create_dir_all(dir.join(bucket)),
        }
    }

    /// Keys of a bucket with their lengths, sorted, those with `prefix` behind `after`.
    fn keys(&self, bucket: &str, prefix: &str, after: &str) -> io::Result<Vec<(String, u64)>> {
        let bucket_name = format!("{bucket}/");
        let mut found = Vec::new();
        match &self.place {
            Place::Memory(objects) => {
                let objects = objects.read().expect("objects");
                let of_bucket = objects.range(bucket_name.clone()..).take_while(|(name, _)| name.starts_with(&bucket_name));
                found.extend(of_bucket.map(|(name, pieces)| (name[bucket_name.len()..].to_owned(), total(pieces))));
            }
            Place::Directory(dir) => files_below(&dir.join(bucket), "", &mut found)?,
        }
        found.retain(|(key, _)| !key.is_empty() && key.starts_with(prefix) && key.as_str() > after);
        found.sort_unstable();
        Ok(found)
    }
}

fn total(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|p| p.len() as u64).sum()
}

fn files_below(dir: &Path, key: &str, found: &mut Vec<(String, u64)>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let key = if key.is_empty() { name } else { format!("{key}/{name}") };
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            files_below(&entry.path(), &key, found)?;
        } else {
            found.push((key, metadata.len()));
        }
    }
    Ok(())
}

fn pieces_of(pieces: &[Bytes], start: u64, end: u64) -> Vec<Bytes> {
    let (mut cut, mut at) = (Vec::new(), 0);
    for piece in pieces {
        let (from, to) = (start.max(at), end.min(at + piece.len() as u64));
        if from < to {
            cut.push(piece.slice((from - at) as usize..(to - at) as usize));
        }
        at += piece.len() as u64;
    }
    cut
}

#[allow(clippy::needless_pass_by_value)]
fn internal(error: io::Error) -> S3Error {
    S3Error::with_message(S3ErrorCode::InternalError, error.to_string())
}

fn name(bucket: &str, key: &str) -> S3Result<Name> {
    let legal = !key.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if legal { Ok(format!("{bucket}/{key}")) } else { Err(s3_error!(InvalidArgument, "no such keys here")) }
}

#[async_trait::async_trait]
impl S3 for Backend {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        if !self.objects.has_bucket(&input.bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        let name = name(&input.bucket, &input.key)?;
        let mut pieces = Vec::new();
        if let Some(mut body) = input.body {
            while let Some(piece) = body.next().await {
                pieces.push(piece.map_err(|error| S3Error::with_message(S3ErrorCode::IncompleteBody, error.to_string()))?);
            }
        }
        if input.content_length.is_some_and(|len| len as u64 != total(&pieces)) {
            return Err(s3_error!(IncompleteBody));
        }
        self.with(move |objects| objects.store(&name, pieces)).await.map_err(internal)?;
        Ok(S3Response::new(PutObjectOutput::default()))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let wanted = move |len| match input.range {
            Some(range) => Ok(range.check(len).map(|range| (range.start, range.end))?),
            None => Ok((0, len)),
        };
        let name = name(&input.bucket, &input.key)?;
        let (len, start, pieces) = self.with(move |objects| objects.load(&name, wanted)).await?;
        let sent = total(&pieces);
        let output = GetObjectOutput {
            content_length: i64::try_from(sent).ok(),
            content_range: input.range.map(|_| format!("bytes {start}-{}/{len}", start + sent - 1)),
            body: Some(StreamingBlob::from(Body::http_body(Pieces { pieces: pieces.into(), left: sent }))),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let name = name(&request.input.bucket, &request.input.key)?;
        let (len, _, _) = self.with(move |objects| objects.load(&name, |_| Ok((0, 0)))).await?;
        Ok(S3Response::new(HeadObjectOutput { content_length: i64::try_from(len).ok(), ..Default::default() }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.objects.remove(&name(&request.input.bucket, &request.input.key)?);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let input = request.input;
        let mut deleted = Vec::new();
        for object in input.delete.objects {
            self.objects.remove(&name(&input.bucket, &object.key)?);
            deleted.push(DeletedObject { key: Some(object.key), ..Default::default() });
        }
        let deleted = (input.delete.quiet != Some(true)).then_some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..Default::default() }))
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        if !self.objects.has_bucket(&input.bucket) {
            return Err(s3_error!(NoSuchBucket));
        }
        let after = input.continuation_token.clone().or(input.start_after.clone()).unwrap_or_default();
        let found = self.objects.keys(&input.bucket, input.prefix.as_deref().unwrap_or(""), &after).map_err(internal)?;
        let limit = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap_or(0).min(1000);
        let is_truncated = found.len() > limit;
        let contents: Vec<Object> = found.into_iter().take(limit).map(|(key, len)| listed(key, len)).collect();
        let next_continuation_token = contents.last().filter(|_| is_truncated).and_then(|object| object.key.clone());
        let output = ListObjectsV2Output {
            key_count: i32::try_from(contents.len()).ok(),
            is_truncated: Some(is_truncated),
            next_continuation_token,
            contents: Some(contents),
            name: Some(input.bucket),
            prefix: input.prefix,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        if self.objects.has_bucket(&request.input.bucket) {
            Ok(S3Response::new(HeadBucketOutput::default()))
        } else {
            Err(s3_error!(NoSuchBucket))
        }
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        if self.objects.has_bucket(&request.input.bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        self.objects.make_bucket(&request.input.bucket).map_err(internal)?;
        Ok(S3Response::new(CreateBucketOutput::default()))
    }
}

fn listed(key: String, len: u64) -> Object {
    Object { key: Some(key), size: i64::try_from(len).ok(), ..Default::default() }
}

/// Some bytes as a body of known length, in pieces of at most [`PIECE`].
struct Pieces {
    pieces: std::collections::VecDeque<Bytes>,
    left: u64,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(first) = self.pieces.front_mut() else { return Poll::Ready(None) };
        let piece = if first.len() > PIECE { Some(first.split_to(PIECE)) } else { self.pieces.pop_front() };
        let piece = piece.unwrap_or_default();
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
