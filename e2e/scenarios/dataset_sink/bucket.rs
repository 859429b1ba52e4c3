//! What is in a sink's bucket, asked of the store.

use super::*;

impl DatasetSink {
    /// Keys of open uploads.
    pub(crate) async fn uploads(&self) -> Result<BTreeSet<String>> {
        let open = self
            .s3()
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .send()
            .await?;
        let keys = open.uploads().iter().filter_map(|upload| upload.key());
        Ok(keys.map(str::to_owned).collect())
    }

    /// Keys of the bucket's data files.
    pub(crate) async fn files(&self) -> Result<BTreeSet<String>> {
        let listed = self
            .s3()
            .list_objects_v2()
            .bucket(&self.bucket)
            .send()
            .await?;
        let keys = listed.contents().iter().filter_map(|object| object.key());
        Ok(keys
            .filter(|key| !key.starts_with("_tidewater/"))
            .map(str::to_owned)
            .collect())
    }

    /// Sizes of the bucket's data files, in the order of their keys.
    pub(crate) async fn sizes(&self) -> Result<Vec<i64>> {
        let listed = self
            .s3()
            .list_objects_v2()
            .bucket(&self.bucket)
            .send()
            .await?;
        let files = listed.contents().iter().filter(|object| {
            let key = object.key().unwrap_or_default();
            !key.starts_with("_tidewater/")
        });
        Ok(files.filter_map(|object| object.size()).collect())
    }

    /// How many files the ledger of each partition names as pending.
    pub(crate) async fn pending(&self) -> Result<BTreeMap<i64, usize>> {
        let s3 = self.s3();
        let prefix = format!("_tidewater/{}/", self.id());
        let request = s3.list_objects_v2().bucket(&self.bucket).prefix(prefix);
        let mut pending = BTreeMap::new();
        for object in request.send().await?.contents() {
            let key = object.key().context("a key")?;
            let request = s3.get_object().bucket(&self.bucket).key(key);
            let body = request.send().await?.body.collect().await?.into_bytes();
            let ledger: Value = serde_json::from_slice(&body)?;
            let partition = ledger["partition"].as_i64().context("a partition")?;
            let files = ledger["pending"].as_array().context("a list")?;
            pending.insert(partition, files.len());
        }
        Ok(pending)
    }

    /// Aborts the bucket's open uploads but for `spared`, as a lifecycle rule does, and tells how many.
    pub(crate) async fn abort_uploads(&self, spared: usize) -> Result<usize> {
        let s3 = self.s3();
        let open = s3
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .send()
            .await?;
        let doomed = open.uploads().iter().skip(spared);
        for upload in doomed.clone() {
            s3.abort_multipart_upload()
                .bucket(&self.bucket)
                .set_key(upload.key().map(str::to_owned))
                .set_upload_id(upload.upload_id().map(str::to_owned))
                .send()
                .await?;
        }
        Ok(doomed.count())
    }
}
