//! Three real nodes serve one to-do system.

use anyhow::Result;
use wasm_node_tests::cluster::Cluster;
use wasm_node_tests::http::Connection;

#[test]
fn an_entry_added_through_one_node_is_read_through_the_others() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let mut one = Connection::open(cluster.http(1))?;
    let added = one.request("POST", "/add_entry?list=bob&date=2018-12-19&title=Dentist")?;
    assert_eq!((added.status, added.text().as_str()), (200, "OK"));
    for number in 1..=3 {
        let mut node = Connection::open(cluster.http(number))?;
        let entries = node.request("GET", "/entries?list=bob&date=2018-12-19")?;
        assert_eq!(
            (entries.status, entries.text().as_str()),
            (200, "2018-12-19 Dentist")
        );
        assert_eq!(
            entries.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
    Ok(())
}
