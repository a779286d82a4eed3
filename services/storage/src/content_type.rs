//! Types of content. Browsers must believe the stored type; types that can run a script are never shown.

/// So many bytes are looked at.
pub const SNIFFED: usize = 1_024;

/// The type without its parameters, in lower case.
pub fn essence(kind: &str) -> String {
    kind.split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// Whether a browser would run scripts in it: such an object is downloaded and never shown.
pub fn is_active(kind: &str) -> bool {
    let essence = essence(kind);
    let named = [
        "text/html",
        "text/xml",
        "application/xml",
        "text/xsl",
        "multipart/x-mixed-replace",
        "multipart/related",
        "message/rfc822",
        "text/cache-manifest",
        "application/pdf",
    ];
    named.contains(&&*essence) || essence.ends_with("+xml") || essence.contains("script")
}

/// What the first bytes say, if they say anything.
pub fn sniff(head: &[u8]) -> Option<&'static str> {
    let head = &head[..head.len().min(SNIFFED)];
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    if text.starts_with('<') && text.contains("<svg") {
        return Some("image/svg+xml");
    }
    infer::get(head).map(|kind| kind.mime_type())
}

/// The type to store: what the sender says, or what the bytes say when the sender says nothing of use.
pub fn stored(declared: Option<&str>, sniffed: Option<&'static str>) -> String {
    match declared.map(str::trim).filter(|kind| !kind.is_empty()) {
        Some(kind) if essence(kind) != "application/octet-stream" => kind.to_owned(),
        _ => sniffed.unwrap_or("application/octet-stream").to_owned(),
    }
}

/// Whether a bucket's list has the type, also as `image/*`.
pub fn is_allowed(allowed: Option<&[String]>, kind: &str) -> bool {
    let Some(allowed) = allowed else {
        return true;
    };
    let essence = essence(kind);
    allowed.iter().any(|pattern| {
        let pattern = pattern.trim().to_ascii_lowercase();
        match pattern.strip_suffix("/*") {
            Some("*") => true,
            Some(major) => essence.split('/').next() == Some(major),
            None => pattern == essence || pattern == "*",
        }
    })
}

/// Whether bytes may be stored as what they are said to be, in a bucket with a list. A page in a bucket of images is refused, and
/// so is a film that is called a picture; of types that look alike, such as those of zip archives, the sender's word counts.
pub fn is_honest(allowed: Option<&[String]>, declared: &str, sniffed: Option<&str>) -> bool {
    let (Some(_), Some(sniffed)) = (allowed, sniffed) else {
        return true;
    };
    let major = |kind: &str| {
        essence(kind)
            .split('/')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let is_medium = |kind: &str| matches!(&*major(kind), "image" | "audio" | "video");
    if is_active(sniffed) || is_active(declared) {
        return is_allowed(allowed, sniffed);
    }
    !is_medium(declared) || major(declared) == major(sniffed) || is_allowed(allowed, sniffed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_say_what_they_are() {
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\n...."), Some("image/png"));
        assert_eq!(sniff(b"  <!DOCTYPE html><p>"), Some("text/html"));
        assert_eq!(
            sniff(b"\xef\xbb\xbf<?xml version='1.0'?><svg onload=x>"),
            Some("image/svg+xml")
        );
        assert_eq!(sniff(b"plain text"), None);
        assert_eq!(sniff(b""), None);
    }

    #[test]
    fn what_runs_is_active() {
        for kind in [
            "text/HTML; charset=utf-8",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/javascript",
        ] {
            assert!(is_active(kind), "{kind}");
        }
        for kind in ["image/png", "text/plain", "application/zip"] {
            assert!(!is_active(kind), "{kind}");
        }
    }

    #[test]
    fn a_list_is_kept_to() {
        let images = vec!["image/*".to_owned()];
        assert!(
            is_allowed(Some(&images), "image/png; q=1") && !is_allowed(Some(&images), "text/html")
        );
        assert!(is_allowed(None, "text/html"));
        assert!(!is_honest(Some(&images), "image/png", Some("text/html")));
        assert!(!is_honest(Some(&images), "image/png", Some("video/mp4")));
        assert!(is_honest(Some(&images), "image/png", Some("image/jpeg")));
        assert!(is_honest(Some(&images), "image/png", None));
        let office = vec!["application/vnd.ms-excel".to_owned()];
        assert!(is_honest(
            Some(&office),
            "application/vnd.ms-excel",
            Some("application/zip")
        ));
    }

    #[test]
    fn the_senders_word_counts_when_it_says_something() {
        assert_eq!(stored(Some("text/plain"), Some("image/png")), "text/plain");
        assert_eq!(
            stored(Some("application/octet-stream"), Some("image/png")),
            "image/png"
        );
        assert_eq!(stored(None, None), "application/octet-stream");
    }
}
