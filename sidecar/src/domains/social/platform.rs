//! The four platforms, by one interface.

use kijko_core::secret::Secret;

use super::{
    config::SocialConfig,
    facebook::Facebook,
    failure::{Class, Failure, Refusal},
    http::Http,
    instagram::Instagram,
    linkedin::LinkedIn,
    media::{Bucket, Unread},
    post::{Created, Image, Look, Media, Post, Prepared},
    twitter::{self, Twitter},
};

/// The platforms.
pub(super) struct Platforms {
    bucket: Bucket,
    linkedin: LinkedIn,
    facebook: Facebook,
    instagram: Instagram,
    twitter: Twitter,
}

impl Platforms {
    pub(super) fn new(config: SocialConfig, http: Http, bucket: Bucket) -> Self {
        Self {
            linkedin: LinkedIn::new(http.clone(), config.linkedin, config.linkedin_version),
            facebook: Facebook::new(http.clone(), config.facebook),
            instagram: Instagram::new(http.clone(), config.instagram),
            twitter: Twitter::new(http, config.twitter),
            bucket,
        }
    }

    /// Makes one more part of a post ready; true when all is. What it adds to `prepared` is kept before the next part.
    pub(super) async fn prepare(
        &self,
        post: &Post,
        token: &Secret,
        prepared: &mut Prepared,
    ) -> Result<bool, Refusal> {
        if post.platform == "instagram" {
            // It fetches images itself.
            return self.instagram.prepare(post, token, prepared).await;
        }
        let Some(media) = post.media.get(prepared.media().len()) else {
            return Ok(true);
        };
        let bytes = self.read(media).await?;
        let image = Image { media, bytes };
        let id = match post.platform.as_str() {
            "linkedin" => self.linkedin.upload(post, token, &image).await,
            "facebook" => self.facebook.upload(post, token, &image).await,
            _ => self.twitter.upload(token, &image).await,
        };
        prepared.add_media(id?);
        Ok(prepared.media().len() == post.media.len())
    }

    /// The one call that creates the post.
    pub(super) async fn create(
        &self,
        post: &Post,
        token: &Secret,
        prepared: &Prepared,
    ) -> Result<Created, Failure> {
        match post.platform.as_str() {
            "linkedin" => self.linkedin.create(post, token, prepared).await,
            "facebook" => self.facebook.create(post, token, prepared).await,
            "instagram" => self.instagram.create(post, token, prepared).await,
            _ => self.twitter.create(post, token, prepared).await,
        }
    }

    /// Whether a platform shows its posts to the account that wrote them.
    pub(super) fn can_find(platform: &str) -> bool {
        platform != "linkedin"
    }

    /// How many posts a look reads at most, where the platform charges for each.
    pub(super) fn max_reads(platform: &str) -> i32 {
        match platform {
            "twitter" => twitter::MAX_READS,
            _ => 0,
        }
    }

    /// Looks whether the post is there.
    pub(super) async fn find(
        &self,
        post: &Post,
        token: &Secret,
        prepared: &Prepared,
    ) -> Result<Look, Refusal> {
        match post.platform.as_str() {
            "linkedin" => Ok(Look::default()),
            "facebook" => self.facebook.find(post, token).await.map(Look::from),
            "instagram" => {
                let found = self.instagram.find(post, token, prepared).await;
                found.map(Look::from)
            }
            _ => self.twitter.find(post, token).await,
        }
    }

    async fn read(&self, media: &Media) -> Result<Vec<u8>, Refusal> {
        let unread = match self.bucket.read(&media.path).await {
            Ok(bytes) => return Ok(bytes),
            Err(unread) => unread,
        };
        if let Unread::Missing = unread {
            let message = format!("{} is not in the bucket social-media", media.path);
            return Err(Refusal::new(Class::Permanent, "media_not_found", message));
        }
        tracing::warn!(error = %unread, "an image of a post cannot be read");
        let message = "the storage service cannot be asked for an image";
        Err(Refusal::new(Class::Transient, "media_unavailable", message))
    }
}
