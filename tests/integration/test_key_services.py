"""Keys in the services of AWS, Google Cloud, Azure and HashiCorp: their own clients, against servers that sign with real keys here.

The servers speak what the clients say on the wire and nothing else. Logins are not played: Google's and Azure's client get none.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from packager.cli import packager
from packager.cli.failure import run
from packager.model.errors import KeyMaterialError
from packager.repo.signers import import_public, open_signer

PAYLOAD = b"what is signed"
GOOGLE_KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
CHALLENGE = 'Bearer authorization="https://login.example/cars", resource="https://vault.azure.net"'
pytestmark = pytest.mark.services

Answer = Callable[[str, Message, Any], Any]
"""Answers path, headers and JSON body of a request with JSON; with None for a refusal."""


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """Serve JSON; provides the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = answer(self.path, self.headers, json.loads(body or b"null"))
            data = json.dumps(found).encode()
            self.send_response(401 if found is None else 200)
            self.send_header("WWW-Authenticate", CHALLENGE)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_GET  # noqa: N815 - as http.server names them

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def check(uri: str, *, scheme: str) -> str:
    """Take in the public half, sign, verify; return the URI that is kept."""
    kept, public_key = import_public(uri)
    assert public_key.scheme == scheme
    signature = open_signer(kept, public_key).sign(PAYLOAD)
    public_key.verify_signature(signature, PAYLOAD)
    return kept


class Aws:
    """AWS KMS with one key, `alias/root`; JSON 1.1 of its API, version 2014-11-01."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP384R1())

    def answer(self, _path: str, headers: Message, body: Any) -> Any:
        if body["KeyId"] != "alias/root":
            return None
        if headers["X-Amz-Target"] == "TrentService.GetPublicKey":
            data = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return {
                "KeyId": "arn:aws:kms:eu-central-1:1:key/1",
                "PublicKey": base64.b64encode(data).decode(),
                "KeySpec": "ECC_NIST_P384",
                "KeyUsage": "SIGN_VERIFY",
                "SigningAlgorithms": ["ECDSA_SHA_384"],
            }
        assert headers["X-Amz-Target"] == "TrentService.Sign"
        assert (body["MessageType"], body["SigningAlgorithm"]) == ("DIGEST", "ECDSA_SHA_384")
        signature = self.key.sign(base64.b64decode(body["Message"]), ec.ECDSA(Prehashed(SHA384())))
        return {"Signature": base64.b64encode(signature).decode()}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """AWS KMS, as its client finds it by the environment."""
    pytest.importorskip("boto3")
    service = Aws()
    with answering(service.answer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield service


def test_aws(aws: Aws) -> None:
    assert check("awskms:alias/root", scheme="ecdsa-sha2-nistp384") == "awskms:alias/root"


def test_another_key_under_the_same_name_is_found_out(aws: Aws) -> None:
    _, public_key = import_public("awskms:alias/root")
    signer = open_signer("awskms:alias/root", public_key)
    aws.key = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(KeyMaterialError, match="not the private half"):
        signer.sign(PAYLOAD)


@pytest.mark.usefixtures("aws")
def test_a_key_that_is_not_there_is_named() -> None:
    with pytest.raises(KeyMaterialError, match="awskms:alias/other: ") as caught:
        import_public("awskms:alias/other")
    assert "credentials of AWS" in caught.value.hint


@pytest.mark.usefixtures("aws")
def test_a_root_is_signed_in_a_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    policy = (Path(__file__).parents[2] / "keys/policy.toml").read_text()
    (keys / "policy.toml").write_text(
        policy.replace('["root-1", "root-2", "root-3"]\nthreshold = 2', '["root-1"]\nthreshold = 1')
    )
    place = ["--keys", str(keys)]
    assert run(packager, ["keys", "add", "root-1", "--uri", "awskms:alias/root", *place], "packager") == 0
    assert run(packager, ["keys", "create", *place], "packager") == 0
    root = json.loads((keys / "public/root.json").read_text())
    assert [bool(entry["sig"]) for entry in root["signatures"]] == [True], capsys.readouterr()


def test_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hvac")
    keys = {version: Ed25519PrivateKey.generate() for version in (9, 10)}

    def answer(path: str, headers: Message, body: Any) -> Any:
        assert headers["X-Vault-Token"] == "token"
        if path == "/v1/transit/keys/root":
            raw = {str(version): key.public_key().public_bytes_raw() for version, key in keys.items()}
            return {
                "data": {
                    "keys": {version: {"public_key": base64.b64encode(data).decode()} for version, data in raw.items()}
                }
            }
        assert path.startswith("/v1/transit/sign/root")
        signature = keys[body["key_version"]].sign(base64.b64decode(body["input"]))
        return {"data": {"signature": f"vault:v{body['key_version']}:{base64.b64encode(signature).decode()}"}}

    with answering(answer) as url:
        monkeypatch.setenv("VAULT_ADDR", url)
        monkeypatch.setenv("VAULT_TOKEN", "token")
        assert check("hv:root", scheme="ed25519") == "hv:root/10"
        assert check("hv:root/10", scheme="ed25519") == "hv:root/10"
        with pytest.raises(KeyMaterialError, match="hv:root/9: found hv:root/10 as the newest version"):
            import_public("hv:root/9")


def test_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client speaks TLS to the host of the vault alone; below it, what it says is taken to the server."""
    pytest.importorskip("azure.keyvault.keys")
    transport = pytest.importorskip("azure.core.pipeline.transport")
    module = pytest.importorskip("securesystemslib.signer._azure_signer")
    key = ec.generate_private_key(ec.SECP256R1())
    kid = "https://cars.vault.azure.net/keys/os7-root/7"

    def encoded(number: int) -> str:
        return base64.urlsafe_b64encode(number.to_bytes(32)).rstrip(b"=").decode()

    def answer(path: str, headers: Message, body: Any) -> Any:
        if headers.get("Authorization") != "Bearer token":
            return None
        if path.startswith("/keys/os7-root/7/sign?"):
            digest = base64.urlsafe_b64decode(body["value"] + "==")
            pair = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(SHA256()))))
            raw = b"".join(number.to_bytes(32) for number in pair)
            return {"kid": kid, "value": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
        assert path.startswith("/keys/os7-root/"), path
        numbers = key.public_key().public_numbers()
        jwk = {"kid": kid, "kty": "EC", "crv": "P-256", "x": encoded(numbers.x), "y": encoded(numbers.y)}
        return {"key": {**jwk, "key_ops": ["sign", "verify"]}, "attributes": {"enabled": True}}

    with answering(answer) as url:

        class ToServer(transport.RequestsTransport):  # type: ignore[misc]
            def send(self, request: Any, **options: Any) -> Any:
                asked = request.url
                request.url = asked.replace("https://cars.vault.azure.net", url)
                try:
                    return super().send(request, **options)
                finally:
                    request.url = asked

        token = SimpleNamespace(token="token", expires_on=1 << 40, refresh_on=None)
        login = SimpleNamespace(get_token=lambda *_, **__: token)
        monkeypatch.setattr(module, "DefaultAzureCredential", lambda: login)
        for name in ("KeyClient", "CryptographyClient"):
            monkeypatch.setattr(module, name, partial(getattr(module, name), transport=ToServer()))
        found = check("azurekms://cars.vault.azure.net/keys/os7-root", scheme="ecdsa-sha2-nistp256")
    assert found == "azurekms://cars.vault.azure.net/keys/os7-root/7"


def test_google(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client speaks TLS to Google alone; it gets a channel without."""
    kms = pytest.importorskip("google.cloud.kms")
    transports = pytest.importorskip("google.cloud.kms_v1.services.key_management_service.transports")
    grpc = pytest.importorskip("grpc")
    module = pytest.importorskip("securesystemslib.signer._gcp_signer")
    key = ec.generate_private_key(ec.SECP384R1())

    def get(request: Any, _context: object) -> Any:
        assert request.name == GOOGLE_KEY
        data = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        algorithm = kms.CryptoKeyVersion.CryptoKeyVersionAlgorithm.EC_SIGN_P384_SHA384
        return kms.PublicKey(algorithm=algorithm, public_key=kms.ChecksummedData(data=data))

    def sign(request: Any, _context: object) -> Any:
        assert request.name == GOOGLE_KEY
        assert request.digest.sha384 == hashlib.sha384(PAYLOAD).digest()
        return kms.AsymmetricSignResponse(signature=key.sign(request.digest.sha384, ec.ECDSA(Prehashed(SHA384()))))

    methods = {"GetPublicKey": (get, kms.GetPublicKeyRequest, kms.PublicKey)}
    methods["AsymmetricSign"] = (sign, kms.AsymmetricSignRequest, kms.AsymmetricSignResponse)
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(work, asked.deserialize, answered.serialize)
        for name, (work, asked, answered) in methods.items()
    }
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("google.cloud.kms.v1.KeyManagementService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            transport = transports.KeyManagementServiceGrpcTransport(channel=channel)
            client = partial(kms.KeyManagementServiceClient, transport=transport)
            monkeypatch.setattr(module.kms, "KeyManagementServiceClient", client)
            assert check(f"gcpkms:{GOOGLE_KEY}", scheme="ecdsa-sha2-nistp384") == f"gcpkms:{GOOGLE_KEY}"
    finally:
        server.stop(None)
