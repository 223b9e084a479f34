//! What a guest may do to `wasi:keyvalue`, the well-behaved and the hostile.

use super::atomics::{CasError, Host as _, HostCas as _};
use super::batch::Host as _;
use super::store::{Host as _, HostBucket};
use super::*;
use crate::store::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

struct Guest {
    ctx: KeyvalueCtx,
    table: ResourceTable,
    _folder: tempfile::TempDir,
}

impl Guest {
    fn granted(grants: BucketGrants) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        Self {
            ctx: KeyvalueCtx::new(store, grants),
            table: ResourceTable::new(),
            _folder: folder,
        }
    }

    fn view(&mut self) -> KeyvalueView<'_> {
        KeyvalueView {
            ctx: &mut self.ctx,
            table: &mut self.table,
        }
    }

    /// The error as the guest gets it; a trap is an `Err`.
    fn told(&mut self, error: KeyvalueError) -> wasmtime::Result<store::Error> {
        self.view().convert_error(error)
    }
}

fn same<T: 'static>(handle: &Resource<T>) -> Resource<T> {
    Resource::new_own(handle.rep())
}

#[tokio::test]
async fn only_granted_buckets_open() {
    let mine = [BucketName::new("mine").unwrap()].into_iter().collect();
    let mut guest = Guest::granted(mine);
    let bucket = guest.view().open("mine".into()).unwrap();
    guest
        .view()
        .set(same(&bucket), "k".into(), vec![1])
        .await
        .unwrap();
    assert_eq!(guest.view().get(bucket, "k".into()).unwrap(), Some(vec![1]));
    for (name, denied) in [("theirs", true), ("mine/../theirs", true), ("", false)] {
        let error = guest.view().open(name.into()).unwrap_err();
        match guest.told(error).unwrap() {
            store::Error::AccessDenied => assert!(denied, "{name}"),
            store::Error::NoSuchStore => assert!(!denied, "{name}"),
            store::Error::Other(text) => panic!("{name}: {text}"),
        }
    }
    let mut nothing = Guest::granted(BucketGrants::default());
    assert!(matches!(
        nothing.view().open("mine".into()),
        Err(KeyvalueError::AccessDenied)
    ));
}

#[tokio::test]
async fn what_is_too_big_is_the_guests_error_and_no_trap() {
    let mut guest = Guest::granted(BucketGrants::All);
    let bucket = guest.view().open("b".into()).unwrap();
    let long = "k".repeat(MAX_KEY_BYTES + 1);
    let mut errors = vec![
        guest.view().get(same(&bucket), long.clone()).unwrap_err(),
        guest
            .view()
            .exists(same(&bucket), long.clone())
            .unwrap_err(),
        guest
            .view()
            .list_keys(same(&bucket), Some(long.clone()))
            .map(drop)
            .unwrap_err(),
        guest.view().new(same(&bucket), long.clone()).unwrap_err(),
    ];
    let mut view = guest.view();
    errors.push(
        view.set(same(&bucket), long.clone(), vec![])
            .await
            .unwrap_err(),
    );
    errors.push(
        view.set(same(&bucket), "k".into(), vec![0; MAX_VALUE_BYTES + 1])
            .await
            .unwrap_err(),
    );
    errors.push(view.delete(same(&bucket), long.clone()).await.unwrap_err());
    errors.push(view.increment(same(&bucket), long, 1).await.unwrap_err());
    let many: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    errors.push(view.get_many(same(&bucket), many.clone()).unwrap_err());
    errors.push(view.delete_many(same(&bucket), many).await.unwrap_err());
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("limit"), "{text}");
        assert!(
            matches!(guest.told(error), Ok(store::Error::Other(told)) if told == text),
            "{text}"
        );
    }
}

#[tokio::test]
async fn handles_are_bounded_and_given_back() {
    let mut guest = Guest::granted(BucketGrants::All);
    let mut open: Vec<_> = (0..MAX_OPEN_HANDLES)
        .map(|_| guest.view().open("b".into()).unwrap())
        .collect();
    for _ in 0..2 {
        let error = guest.view().open("b".into()).unwrap_err();
        assert!(matches!(guest.told(error), Ok(store::Error::Other(_))));
    }
    let bucket = open.pop().unwrap();
    HostBucket::drop(&mut guest.view(), bucket).unwrap();
    let cas = guest.view().new(same(&open[0]), "k".into()).unwrap();
    assert!(guest.view().open("b".into()).is_err());
    // A failed swap takes one handle and gives another, so it works at the limit as well.
    guest
        .view()
        .set(same(&open[0]), "k".into(), vec![1])
        .await
        .unwrap();
    let Err(CasError::CasFailed(cas)) = guest.view().swap(cas, vec![2]).await.unwrap() else {
        panic!("the swap has not seen the new value");
    };
    assert!(guest.view().open("b".into()).is_err());
    assert!(guest.view().swap(cas, vec![2]).await.unwrap().is_ok());
    guest.view().open("b".into()).unwrap();
}

#[tokio::test]
async fn a_handle_that_is_closed_or_made_up_traps() {
    let mut guest = Guest::granted(BucketGrants::All);
    let bucket = guest.view().open("b".into()).unwrap();
    let cas = guest.view().new(same(&bucket), "k".into()).unwrap();
    let of_another_type = Resource::new_own(cas.rep());
    HostBucket::drop(&mut guest.view(), same(&bucket)).unwrap();
    assert!(HostBucket::drop(&mut guest.view(), same(&bucket)).is_err());
    for handle in [bucket, of_another_type, Resource::new_own(u32::MAX)] {
        let error = guest.view().get(same(&handle), "k".into()).unwrap_err();
        assert!(guest.told(error).is_err());
        let error = guest
            .view()
            .set(same(&handle), "k".into(), vec![])
            .await
            .unwrap_err();
        assert!(guest.told(error).is_err());
    }
    // None of that has changed the count of what is open: the compare-and-swap handle.
    assert_eq!(guest.ctx.open_handles, 1);
    assert!(
        guest
            .view()
            .swap(same(&cas), vec![1])
            .await
            .unwrap()
            .is_ok()
    );
    assert!(guest.view().swap(cas, vec![1]).await.is_err());
    assert_eq!(guest.ctx.open_handles, 0);
}

#[tokio::test]
async fn batches_pages_and_numbers() {
    let mut guest = Guest::granted(BucketGrants::All);
    let bucket = guest.view().open("b".into()).unwrap();
    let pairs = (0..1500)
        .map(|n| (format!("k{n:04}"), vec![n as u8]))
        .collect();
    guest.view().set_many(same(&bucket), pairs).await.unwrap();
    let got = guest
        .view()
        .get_many(same(&bucket), vec!["k0007".into(), "none".into()])
        .unwrap();
    assert_eq!(got, [Some(("k0007".into(), vec![7])), None]);
    let first = guest.view().list_keys(same(&bucket), None).unwrap();
    let second = guest
        .view()
        .list_keys(same(&bucket), first.cursor.clone())
        .unwrap();
    assert_eq!(first.keys.len() + second.keys.len(), 1500);
    assert_eq!((first.cursor, second.cursor), (Some("k0999".into()), None));
    guest
        .view()
        .delete_many(same(&bucket), second.keys)
        .await
        .unwrap();
    assert!(!guest.view().exists(same(&bucket), "k1400".into()).unwrap());

    assert_eq!(
        guest
            .view()
            .increment(same(&bucket), "n".into(), -5)
            .await
            .unwrap(),
        -5
    );
    assert_eq!(
        guest
            .view()
            .increment(same(&bucket), "n".into(), 7)
            .await
            .unwrap(),
        2
    );
    let error = guest
        .view()
        .increment(bucket, "k0001".into(), 1)
        .await
        .unwrap_err();
    assert!(matches!(guest.told(error), Ok(store::Error::Other(_))));
}

#[tokio::test]
async fn a_swap_goes_by_what_the_guest_has_seen() {
    let mut guest = Guest::granted(BucketGrants::All);
    let bucket = guest.view().open("b".into()).unwrap();
    let cas = guest.view().new(same(&bucket), "k".into()).unwrap();
    assert_eq!(guest.view().current(same(&cas)).unwrap(), None);
    guest
        .view()
        .set(same(&bucket), "k".into(), vec![1])
        .await
        .unwrap();
    assert_eq!(guest.view().current(same(&cas)).unwrap(), Some(vec![1]));
    assert!(guest.view().swap(cas, vec![2]).await.unwrap().is_ok());

    let cas = guest.view().new(same(&bucket), "k".into()).unwrap();
    guest
        .view()
        .delete(same(&bucket), "k".into())
        .await
        .unwrap();
    assert!(matches!(
        guest.view().swap(cas, vec![3]).await.unwrap(),
        Err(CasError::CasFailed(_))
    ));
    assert_eq!(guest.view().get(bucket, "k".into()).unwrap(), None);
}
