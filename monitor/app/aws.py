"""Signs requests for AWS (Signature Version 4) and finds the keys of the machine, both by botocore.

Only this module imports botocore, and only for a target that needs it: it comes with `ingestion-monitor[bedrock]`.
"""

import math
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from monitor.client.auth import SecretSource
from monitor.client.signing import ConfiguredKeys, KeySource, Sign, SignedAuth, SigningKeys
from monitor.config import AwsConfig, TargetConfig
from monitor.errors import ConfigError
from monitor.logs import redact_text, register_secret
from monitor.model.http import UNUSABLE_CREDENTIALS, ApiError, Request
from monitor.threads import run_in_thread

if TYPE_CHECKING:
    from botocore.credentials import Credentials

_INSTALL = 'pip install "ingestion-monitor[bedrock]"'
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+){1,3}-\d{1,2}")
_SIGNATURE_HEADERS = frozenset({"authorization", "x-amz-date", "x-amz-security-token"})
_CHECK_INTERVAL_S = 60.0
"""How often, in seconds, botocore is asked whether keys are due for renewal: it renews them 10 to 15 minutes early."""
_MAX_WAIT_S = 30.0
"""For the keys of the machine, in seconds: a role's come over the network."""


def build_signed_auth(
    target: TargetConfig, auth: AwsConfig, *, secret: SecretSource | None, token: SecretSource | None
) -> SignedAuth:
    """The signer of a target, with its own keys or, without `secret`, those of the machine.

    Raises ConfigError if botocore is not installed, or the region is not known.
    """
    try:
        import botocore.auth
        import botocore.session  # noqa: F401  # broken installations show here, and not in a run
    except ImportError:
        raise ConfigError(
            [f"targets.{target.name}.auth signs requests for AWS, which needs botocore: install it by {_INSTALL}"]
        ) from None
    region = auth.region or region_of(target.base_url)
    if region is None:
        where = f"targets.{target.name}.auth.region is missing"
        raise ConfigError([f'{where}: base_url names no region, so give it, as in region = "eu-central-1"'])
    keys: KeySource = MachineKeys(auth.profile)
    if secret is not None:
        keys = ConfiguredKeys(auth.access_key_id or "", secret, token)
    return SignedAuth(keys, signer(target.base_url, service=auth.service, region=region))


def region_of(base_url: str) -> str | None:
    """The region in the host of an AWS endpoint, such as `bedrock-agent.eu-central-1.amazonaws.com`."""
    labels = (urlsplit(base_url).hostname or "").split(".")
    return next((label for label in labels if _REGION.fullmatch(label)), None)


def signer(base_url: str, *, service: str, region: str) -> Sign:
    """Signs requests below `base_url`: method, path, query, host, content type and body."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    root = base_url.rstrip("/")

    def sign(request: Request, keys: SigningKeys) -> Request:
        # what a gateway may add, drop or change is not signed
        signed = {name: value for name, value in request.headers.items() if name.lower() == "content-type"}
        aws = AWSRequest(method=request.method, url=root + request.path, headers=signed, data=request.body or b"")
        SigV4Auth(Credentials(keys.key_id, keys.secret, keys.token), service, region).add_auth(aws)
        headers = {name.lower(): value for name, value in aws.headers.items()}
        return request.with_headers({name: headers[name] for name in _SIGNATURE_HEADERS & headers.keys()})

    return sign


class MachineKeys:
    """Keys as the AWS CLI finds them: environment, profile, role of the container or instance. botocore renews them."""

    def __init__(self, profile: str | None = None) -> None:
        self._profile = profile
        self._found: Credentials | None = None
        self.next_check_s = -math.inf

    async def read(self, now_s: float, *, renew: bool) -> SigningKeys | ApiError:
        """The keys now; after a refusal all places are searched again. Their texts may have secrets, so are masked."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            keys = await run_in_thread(lambda: self._read(renew=renew), timeout_s=_MAX_WAIT_S)
        except TimeoutError:
            return _unusable(f"AWS's credentials did not arrive within {_MAX_WAIT_S:.0f} s: check the role's endpoint")
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            return _unusable(f"AWS's credentials can't be read: {redact_text(str(error))}")
        if keys is None:
            return _unusable(
                "no AWS credentials were found: set access_key_id and secret_access_key in auth, or give the machine "
                "a profile, a role, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        self.next_check_s = now_s + _CHECK_INTERVAL_S
        return keys

    def _read(self, *, renew: bool) -> SigningKeys | None:
        """Blocks: it reads files, and may ask the network."""
        from botocore.session import Session

        if self._found is None or renew:
            self._found = Session(profile=self._profile).get_credentials()
        if self._found is None:
            return None
        frozen = self._found.get_frozen_credentials()
        for secret in (frozen.secret_key, frozen.token):
            if secret:
                register_secret(secret)
        return SigningKeys(key_id=frozen.access_key, secret=frozen.secret_key, token=frozen.token)


def _unusable(message: str) -> ApiError:
    return ApiError(status=None, code=UNUSABLE_CREDENTIALS, message=message, from_token_endpoint=True)
