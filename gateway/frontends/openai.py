"""OpenAI's API: a plain ASGI callable for all that is below /v1/. Every refusal there has that API's shape.

The model's name is in the body, so a call is admitted first, then its body is read, then it is authorized (`pipeline`).
"""

import re
from dataclasses import dataclass
from types import MappingProxyType

from gateway.auth.credentials import credential
from gateway.authz.cedar import Subject
from gateway.call import InferenceCall
from gateway.errors import Code, GatewayError, forget_frames
from gateway.frontends.answering import declared_class, idempotency_key
from gateway.frontends.http_body import Incoming, JsonMemory, NoBody
from gateway.frontends.oip_rest import Scope, peer, promised, read_headers
from gateway.frontends.openai_body import OpenAiBody
from gateway.frontends.openai_downstream import OpenAiDownstream
from gateway.frontends.openai_models import Offers
from gateway.frontends.routes import OPENAI
from gateway.pipeline import Cut, Pipeline
from gateway.telemetry.traceparent import valid_traceparent
from gateway.wire.oip import MODEL_NAME
from gateway.wire.openai import ChatRequest, CompletionRequest, EmbeddingsRequest, Kind
from gateway.wire.openai_replies import models, one_model

BELOW = b"/v1/"

_KIND: MappingProxyType[str, Kind] = MappingProxyType(
    {
        "/v1/chat/completions": ChatRequest,
        "/v1/completions": CompletionRequest,
        "/v1/embeddings": EmbeddingsRequest,
    }
)
_KINDS = {it.path.encode(): _KIND[it.path] for it in OPENAI if it.method == "POST"}
_MODELS = re.compile(rf"/v1/models(?:/(?P<model>{MODEL_NAME}))?".encode())


@dataclass(frozen=True, slots=True)
class OpenAiRest:
    """`request_seconds` is the deadline of a call."""

    pipeline: Pipeline
    memory: JsonMemory
    request_seconds: float
    offers: Offers

    async def __call__(self, scope: Scope, incoming: Incoming, downstream: OpenAiDownstream) -> None:
        """One request whose path begins with BELOW."""
        kind, listed = _KINDS.get(scope["raw_path"]), _MODELS.fullmatch(scope["raw_path"])
        allowed = "POST" if kind else "GET" if listed else None
        try:
            if scope["method"] != allowed:
                await self._refuse(scope, downstream, allowed)
            elif kind is not None:
                await self._serve(scope, incoming, downstream, kind)
            elif listed is not None:
                await self._list(scope, downstream, (listed["model"] or b"").decode())
        except GatewayError as error:
            forget_frames(error)
            told = allowed if error.code is Code.METHOD_NOT_ALLOWED else None
            await downstream.refuse(error, [(b"allow", told.encode())] if told else None)
        except Cut as cut:
            forget_frames(cut)
            # Returning without the rest makes the server close the connection: the client sees that its answer is not whole.
            downstream.cut(cut.error)

    async def _serve(
        self, scope: Scope, incoming: Incoming, downstream: OpenAiDownstream, kind: Kind
    ) -> None:
        try:
            found = read_headers(scope["headers"])
            size, keys = promised(found), found.get(b"idempotency-key")
            body = OpenAiBody(
                incoming,
                size.declared,
                size.coding,
                self.memory,
                kind=kind,
                offers=self.offers,
                downstream=downstream,
                created=self.pipeline.now_us() // 1_000_000,
                can_stream=scope["http_version"] != "1.0",
                with_key=keys is not None,
            )
            once = idempotency_key(keys) if keys else ""
            call = self._call(scope, downstream.request_id, found, body, once=once)
        except GatewayError as error:
            self.pipeline.refused(downstream.request_id, peer(scope), error)
            raise
        try:
            if call.once:
                downstream.hold(body.account)
            await self.pipeline.serve(call, downstream)
            if call.once:
                await downstream.release(self.request_seconds)
        finally:
            body.close()

    async def _list(self, scope: Scope, downstream: OpenAiDownstream, model: str) -> None:
        if model:
            absent = None if self.offers.section(model) else GatewayError(Code.MODEL_NOT_FOUND)
            call = self._examined(scope, downstream, model)
            examined = await self.pipeline.examine(call, "infer", absent)
            await downstream.answer(one_model(model), examined.standing)
            return
        examined = await self.pipeline.examine(self._examined(scope, downstream), None)
        names = [name for name in sorted(self.offers.models()) if self._may(examined.principal.subject, name)]
        await downstream.answer(models(names), examined.standing)

    async def _refuse(self, scope: Scope, downstream: OpenAiDownstream, allowed: str | None) -> None:
        """Before the caller is known, a path that is not here looks like one that is."""
        answer = GatewayError(Code.METHOD_NOT_ALLOWED if allowed else Code.NO_SUCH_PATH)
        await self.pipeline.examine(self._examined(scope, downstream), None, answer)

    def _examined(self, scope: Scope, downstream: OpenAiDownstream, model: str = "") -> InferenceCall:
        """A call that we answer ourselves. Raises GatewayError, recorded."""
        try:
            return self._call(scope, downstream.request_id, read_headers(scope["headers"]), model=model)
        except GatewayError as error:
            self.pipeline.refused(downstream.request_id, peer(scope), error)
            raise

    def _call(
        self,
        scope: Scope,
        request_id: str,
        found: dict[bytes, list[bytes]],
        body: OpenAiBody | None = None,
        *,
        model: str = "",
        once: str = "",
    ) -> InferenceCall:
        """Step 2. Raises GatewayError: 4xx codes only."""
        return InferenceCall(
            request_id=request_id,
            model=model,
            version="",
            credential=credential(found.get(b"authorization", ()), found.get(b"x-api-key", ()))
            or scope.get("client_certificate"),
            address=peer(scope),
            protocol="openai",
            payload=body or NoBody(),
            deadline=self.pipeline.clock() + self.request_seconds,
            traceparent=valid_traceparent(found[b"traceparent"]) if b"traceparent" in found else "",
            endpoint="generate_stream" if body else "metadata",
            naming=body,
            once=once,
            service_class=declared_class(found.get(b"x-gateway-class", ())),
        )

    def _may(self, subject: Subject, name: str) -> bool:
        """Whether this key can use the model here."""
        view, decide = self.pipeline.known.model(name), self.pipeline.policies.inference.decide
        return (
            view is not None
            and self.offers.section(name) is not None
            and decide(subject, "discover", view).allowed
            and decide(subject, "infer", view).allowed
        )
