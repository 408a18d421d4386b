"""What is packed by hand is what protobuf packs."""

from hypothesis import given
from hypothesis import strategies as st

from felixlite.datastore import etcd_wire
from felixlite.datastore.cluster import rpc

keys = st.binary(min_size=1, max_size=200)
values = st.binary(max_size=40_000)
revisions = st.integers(0, 2**63 - 1)


@given(st.lists(st.tuples(keys, revisions), max_size=4), keys, values, st.lists(keys, max_size=3))
def test_a_transaction_is_the_one_that_protobuf_reads(compared, key, value, read):
    packed = etcd_wire.transaction(
        [etcd_wire.compare(*one) for one in compared],
        [etcd_wire.put(key, value), etcd_wire.delete(key)],
        map(etcd_wire.read, read),
    )
    found = rpc.TxnRequest.FromString(packed)

    assert [(c.result, c.target, c.key, c.mod_revision) for c in found.compare] == [
        (rpc.Compare.EQUAL, rpc.Compare.MOD, *one) for one in compared
    ]
    assert [c.WhichOneof("target_union") for c in found.compare] == ["mod_revision"] * len(compared)
    first, second = found.success
    assert (first.request_put.key, first.request_put.value) == (key, value)
    assert second.request_delete_range.key == key
    assert [one.request_range.key for one in found.failure] == read


@given(revisions, st.booleans(), st.integers(0, 3))
def test_of_the_answer_to_a_write_the_revision_counts(revision, succeeded, count):
    puts = [rpc.ResponseOp(response_put=rpc.PutResponse()) for _ in range(count)]
    header = rpc.ResponseHeader(cluster_id=2**64 - 1, member_id=7, revision=revision, raft_term=9)
    answer = rpc.TxnResponse(header=header, succeeded=succeeded, responses=puts)

    assert etcd_wire.written(answer.SerializeToString()) == (revision if succeeded else None)


@given(st.lists(st.none() | st.tuples(keys, values, st.integers(1, 2**63 - 1)), max_size=4), st.booleans())
def test_of_the_answer_to_a_read_each_value_and_its_revision_count(there, succeeded):
    answer = rpc.TxnResponse(succeeded=succeeded)
    answer.header.revision = 3
    for one in there:
        said = answer.responses.add().response_range
        said.header.revision, said.count = 3, 1 if one else 0
        if one:
            said.kvs.add(key=one[0], value=one[1], mod_revision=one[2], version=2, lease=1)

    assert list(etcd_wire.found(answer.SerializeToString())) == [one and one[1:] for one in there]
