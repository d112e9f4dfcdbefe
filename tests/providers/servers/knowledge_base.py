"""A Bedrock knowledge base on loopback: it checks each request's signature and its form with botocore's own code.

Its errors have the shape of AWS's REST APIs: the name in the header `x-amzn-errortype`, only a message in the body.
"""

import json
import re
import time
from datetime import UTC, datetime, timedelta

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.session import Session
from botocore.validate import ParamValidator
from support.loopback import AnsweringHandler, LoopbackServer

MODEL = Session().get_service_model("bedrock-agent")
BASE = "/knowledgebases/ABCDEFGHIJ/datasources/KLMNOPQRST/documents"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/([\w-]+)/aws4_request, SignedHeaders=([\w;-]+), "
    r"Signature=([0-9a-f]{64})"
)
_TOLERANCE = timedelta(minutes=5)


class KnowledgeBase(LoopbackServer):
    """`statuses` are those of its documents by URI. A test changes `keys`, `token` and `ahead`, and queues `faults`."""

    page_size = 1000

    def __init__(self, *, service="bedrock", region="eu-central-1"):
        self.scope = (service, region)
        self.keys, self.token = {"AKIDEXAMPLE": "the-secret-access-key"}, None
        self.statuses, self.reasons, self.faults = {}, {}, []
        self.ahead = timedelta(0)
        """How far its clock is ahead."""
        self.requests = []
        """Path, headers and decoded body of each."""
        self.identify = lambda uri: {"dataSourceType": "S3", "s3": {"uri": uri}}
        server = self

        class Handler(AnsweringHandler):
            def post(self):
                self.reply(*server.answer(self.command, self.path, self.lower_headers(), self.read_body()))

            def date_time_string(self, timestamp=None):
                return super().date_time_string((timestamp or time.time()) + server.ahead.total_seconds())

        super().__init__(Handler)

    def asked(self):
        """The URIs of each question about documents, sorted."""
        questions = [body["documentIdentifiers"] for path, _, body in self.requests if path.endswith("/getDocuments")]
        return [sorted(each["s3"]["uri"] for each in question) for question in questions]

    def answer(self, method, path, headers, raw):
        self.requests.append((path, headers, json.loads(raw)))
        if refusal := self.refused(method, path, headers, raw):
            return refusal
        if self.faults:
            return error(*self.faults.pop(0))
        if not path.startswith(BASE):
            return error(404, "ResourceNotFoundException", "The knowledge base was not found.")
        return self.question(path.removeprefix(BASE), json.loads(raw))

    def question(self, rest, body):
        operation = "GetKnowledgeBaseDocuments" if rest == "/getDocuments" else "ListKnowledgeBaseDocuments"
        ids = {"knowledgeBaseId": "ABCDEFGHIJ", "dataSourceId": "KLMNOPQRST"}
        shape = MODEL.operation_model(operation).input_shape
        report = ParamValidator().validate({**body, **ids}, shape)
        unknown = body.keys() - shape.members.keys()
        identifiers = body.get("documentIdentifiers", [])
        if report.has_errors() or unknown or len(identifiers) > 10:
            return error(400, "ValidationException", f"{report.generate_report()} {sorted(unknown)}")
        if rest == "/getDocuments":
            return 200, {}, {"documentDetails": [self.detail(each) for each in reversed(identifiers)]}
        start = int(body.get("nextToken", "0"))
        end = start + min(body.get("maxResults", 100), self.page_size)
        page = {"documentDetails": [self.detail(self.identify(uri)) for uri in [*self.statuses][start:end]]}
        return 200, {}, {**page, "nextToken": str(end)} if end < len(self.statuses) else page

    def detail(self, identifier):
        uri = identifier["s3"]["uri"] if "s3" in identifier else identifier["custom"]["id"]
        detail = {"knowledgeBaseId": "ABCDEFGHIJ", "dataSourceId": "KLMNOPQRST", "identifier": identifier}
        reason = {"statusReason": self.reasons[uri]} if uri in self.reasons else {}
        updated = {"updatedAt": "2026-03-01T03:00:00.000000+00:00"}
        return {**detail, **reason, **updated, "status": self.statuses.get(uri, "NOT_FOUND")}

    def refused(self, method, path, headers, raw):
        """What AWS answers to a wrong signature; None if it is right."""
        found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if found is None:
            return error(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        key_id, date, region, service, signed, signature = found.groups()
        if key_id not in self.keys or headers.get("x-amz-security-token") != self.token:
            return error(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
        request = AWSRequest(method=method, url=f"http://{headers['host']}{path}", data=raw)
        for name in signed.split(";"):
            request.headers[name] = headers[name]
        request.context["timestamp"] = stamp = headers["x-amz-date"]
        aws = SigV4Auth(Credentials(key_id, self.keys[key_id], self.token), service, region)
        canonical = aws.canonical_request(request)
        right = aws.signature(aws.string_to_sign(request, canonical), request) == signature
        covered = {"host", "x-amz-date", "content-type", *(["x-amz-security-token"] if self.token else [])}
        if not right or not covered <= {*signed.split(";")} or (service, region) != self.scope or date != stamp[:8]:
            said = "The request signature we calculated does not match the signature you provided. "
            return error(403, "InvalidSignatureException", f"{said}The Canonical String was\n'{canonical}'")
        signed_at, now = datetime.strptime(f"{stamp}+0000", "%Y%m%dT%H%M%SZ%z"), datetime.now(UTC) + self.ahead
        if signed_at < now - _TOLERANCE:
            return error(403, "InvalidSignatureException", f"Signature expired: {stamp} is now earlier than {now}")
        if signed_at > now + _TOLERANCE:
            return error(403, "InvalidSignatureException", f"Signature not yet current: {stamp} is later than {now}")
        return None


def error(status, name, message):
    """An error as AWS's REST APIs answer it."""
    headers = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/", "x-amzn-requestid": "r-1"}
    return status, headers, {"message": message}
