//! A Host: it has one normal form, or none.

use decide::authority::{Authority, Host};

/// All of it is a Host.
pub fn check(bytes: &[u8]) {
    let Ok(parsed) = Authority::parse(bytes) else { return };
    let form = parsed.to_string();
    assert_eq!(Authority::parse(form.as_bytes()).as_ref(), Ok(&parsed), "the form of {form} is its own");
    assert!(form.is_ascii() && !form.contains(['@', '/', '?', '#', ' ', ',', '%']), "{form}");
    assert!(parsed.port != Some(0));
    if let Host::Name(name) = &parsed.host {
        assert!(!name.is_empty() && !name.ends_with('.') && !name.bytes().any(|byte| byte.is_ascii_uppercase()));
    }
}
