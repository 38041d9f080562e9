"""The public listener with a certificate: TLS, and HTTP/1.1 only."""

import datetime
import ipaddress
import signal
import socket
import ssl

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lib import make_event, sign, wait_for
from lib.events import encode


def write_certificate(folder, name):
    """A self-signed certificate for 127.0.0.1 in folder/cert.pem and folder/key.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.utcnow()
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=1)).add_extension(address, critical=False).sign(key, hashes.SHA256()))
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    write_certificate(folder, "first")
    return folder


@pytest.fixture(scope="module")
def stack(module_stacks, folder):
    return module_stacks({"WAYBILL_TLS_CERT_FILE": folder / "cert.pem", "WAYBILL_TLS_KEY_FILE": folder / "key.pem"}, workers=0)


def handshake(stack, *protocols):
    """(ALPN protocol that was chosen, the server's certificate)."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    with socket.create_connection(("127.0.0.1", stack.ingest.port), timeout=5) as plain, context.wrap_socket(plain) as secure:
        return secure.selected_alpn_protocol(), secure.getpeercert(binary_form=True)


def post(stack, folder):
    event = make_event()
    body = encode(event)
    headers = sign.standard_webhooks(stack.settings["WAYBILL_SECRET_DEMO"], event["event_id"], body)
    return requests.post(f"https://127.0.0.1:{stack.ingest.port}/v1/events/demo", data=body, verify=str(folder / "cert.pem"), timeout=10,
                         headers={"Content-Type": "application/json", **headers})


def test_accepted(stack, folder):
    assert post(stack, folder).status_code == 202


def test_http2_is_not_offered(stack):
    assert handshake(stack, "h2", "http/1.1")[0] == "http/1.1"
    try:
        assert handshake(stack, "h2")[0] is None
    except ssl.SSLError:
        pass  # refusing the handshake is as good


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_are_refused(stack):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection(("127.0.0.1", stack.ingest.port), timeout=5) as plain:
        context.wrap_socket(plain)


def test_plain_http_gets_no_answer_but_harms_nobody(stack, folder):
    with pytest.raises(requests.ConnectionError):
        stack.send(make_event())
    assert post(stack, folder).status_code == 202


def test_renewed_certificate_is_taken_by_a_reload(stack, folder):
    before = handshake(stack)[1]
    write_certificate(folder, "second")
    stack.ingest.signal(signal.SIGHUP)
    wait_for(lambda: handshake(stack)[1] != before, 10)
    assert post(stack, folder).status_code == 202


def renew(stack, folder, name):
    """Puts a new certificate in place and waits until it is served."""
    before = handshake(stack)[1]
    write_certificate(folder, name)
    assert stack.ingest.reload().status_code == 200
    wait_for(lambda: handshake(stack)[1] != before, 10)


def test_connection_that_was_open_before_the_reload_can_still_shake_hands(stack, folder):
    """It was accepted under an older certificate and has sent nothing yet."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    renew(stack, folder, "of the connection")
    wait_for(lambda: stack.ingest.status()["connections"] == 0, 5)
    with socket.create_connection(("127.0.0.1", stack.ingest.port), timeout=5) as plain:
        wait_for(lambda: stack.ingest.status()["connections"] == 1, 5)
        renew(stack, folder, "next")
        renew(stack, folder, "after that")
        with context.wrap_socket(plain) as secure:
            assert secure.version()
    assert post(stack, folder).status_code == 202


def test_broken_certificate_changes_nothing(stack, folder):
    before = handshake(stack)[1]
    (folder / "cert.pem").write_text("not a certificate")
    assert stack.ingest.reload().status_code == 409
    assert handshake(stack)[1] == before
    write_certificate(folder, "third")
    assert stack.ingest.reload().status_code == 200
    assert post(stack, folder).status_code == 202
