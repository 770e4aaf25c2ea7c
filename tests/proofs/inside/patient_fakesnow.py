"""fakesnow's server, whose queries take as long as until they are asked about twice: for uvicorn, in its environment."""

import gzip
import json
import re
import uuid

from fakesnow.server import app as fakesnow_app
from fakesnow.server import monitoring_query, query_request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

CANCEL = re.compile(r"SELECT SYSTEM\$CANCEL_QUERY\('([^']*)'\)")

asked_about = set()
failed = {}


async def query(request):
    """Run a statement; one that was sent to be run later fails later, and what fakesnow cannot do itself is done here."""
    body = await request.body()
    told = json.loads(gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body)
    if found := CANCEL.fullmatch(told["sqlText"]):
        told["sqlText"] = f"SELECT 'query [{found[1]}] terminated.'"
    answer = await query_request(plain(request, told))
    result = json.loads(answer.body)
    if result["success"] or not told.get("asyncExec"):
        return answer
    query_id = str(uuid.uuid4())
    failed[query_id] = {"status": "FAILED_WITH_ERROR", "errorCode": result["code"], "errorMessage": result["message"]}
    return JSONResponse({"data": {"queryId": query_id}, "code": "333334", "success": True})


async def monitor(request):
    """Say that a query runs, and what has become of it when asked again."""
    query_id = request.path_params["sfqid"]
    if query_id not in asked_about:
        asked_about.add(query_id)
        return JSONResponse({"data": {"queries": [{"status": "RUNNING"}]}, "success": True})
    if query_id in failed:
        return JSONResponse({"data": {"queries": [failed[query_id]]}, "success": True})
    return monitoring_query(request)


def plain(request, told):
    """Return the request with another body."""
    headers = [(name, value) for name, value in request.scope["headers"] if name != b"content-encoding"]

    async def receive():
        return {"type": "http.request", "body": json.dumps(told).encode(), "more_body": False}

    return Request({**request.scope, "headers": headers}, receive)


app = Starlette(
    routes=[
        Route("/queries/v1/query-request", query, methods=["POST"]),
        Route("/monitoring/queries/{sfqid}", monitor),
        Mount("/", fakesnow_app),
    ]
)
