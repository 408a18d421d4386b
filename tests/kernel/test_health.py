import http.client

import pytest

from felixlite.errors import Misconfigured
from felixlite.health import HttpPages, Sample, Served, Wanted, metrics_text


def get(port, path):
    talk = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    talk.request("GET", path)
    answer = talk.getresponse()
    return answer.status, answer.read().decode()


@pytest.fixture
def pages():
    served = HttpPages("127.0.0.1", 0, {"/readiness": lambda: (503, "routes: not converged\n")}, "health")
    served.start()
    yield served
    served.close()


def test_a_page_answers_with_its_code_and_its_reason(pages):
    assert get(pages.port, "/readiness") == (503, "routes: not converged\n")


def test_an_unknown_page_names_the_known_ones(pages):
    assert get(pages.port, "/x") == (404, "pages: /readiness\n")


def test_a_port_in_use_is_one_clear_error(pages):
    with pytest.raises(Misconfigured, match=rf"health: cannot listen on 127\.0\.0\.1 port {pages.port}"):
        HttpPages("127.0.0.1", pages.port, {}, "health")


def test_metrics_are_printed_in_the_format_of_prometheus():
    samples = [
        Sample("bgp_session_up", 1, "1 when established", (("peer", "10.0.0.1"),)),
        Sample("rounds", 7, "Rounds.", kind="counter"),
    ]

    text = metrics_text(samples)

    assert '\nbgp_session_up{peer="10.0.0.1"} 1.0\n' in text
    assert "\nrounds_total 7.0\n" in text


def test_a_server_follows_its_configuration_and_a_taken_port_is_only_an_error_to_show(pages):
    served = Served("metrics", {"/metrics": lambda: (200, "")})

    served.follow(Wanted("127.0.0.1", pages.port))
    assert f"metrics: cannot listen on 127.0.0.1 port {pages.port}" in served.error

    served.follow(Wanted("127.0.0.1", 0))
    assert served.error == ""
    assert get(served._server.port, "/metrics")[0] == 200
    served.follow(None)
    assert served._server is None


@pytest.mark.parametrize("host", ["x" * 600, "a..b", "\0"])
def test_a_host_that_is_no_name_at_all_is_an_error_to_be_shown(host):
    served = Served("health", {})
    served.follow(Wanted(host, 0))
    assert served.error.startswith("health: cannot listen on")
