"""Asks an agent of the Agentic RTB Framework as a host does: for the test in agents.rs.

The messages are described here, by hand, from the published definitions of the framework (1.0) and of OpenRTB 2.6: nothing
comes from the program's own descriptors. There are more fields than the program reads, because hosts send them.

Reads JSON from stdin: address, token, and the requests. Writes the answers, and what health says, as JSON.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc

OPENRTB = "com.iabtechlab.openrtb.v2"
MUTATION = "com.iabtechlab.bidstream.mutation.v1"
SERVICE = "com.iabtechlab.bidstream.mutation.services.v1.RTBExtensionPoint"

# By message: name, number and type of its fields; * marks a list.
MESSAGES = {
    OPENRTB: {
        "BidRequest": "id 1 string, imp 2 *.Imp, device 5 .Device, user 6 .User, at 7 int32, tmax 8 int32, cur 11 *string, "
        "regs 14 .Regs, test 15 bool",
        "BidRequest.Imp": "id 1 string, tagid 7 string, bidfloor 8 double, pmp 11 .Pmp, secure 12 bool",
        "BidRequest.Pmp": "private_auction 1 bool, deals 2 *.Pmp.Deal",
        "BidRequest.Pmp.Deal": "id 1 string, bidfloor 2 double, at 6 int32",
        "BidRequest.Device": "dnt 1 bool, ua 2 string, geo 4 .Geo, ip 3 string, language 11 string, devicetype 18 int32, "
        "ifa 20 string, lmt 23 bool",
        "BidRequest.Geo": "lat 1 double, lon 2 double, country 3 string, region 4 string, city 7 string",
        "BidRequest.User": "id 1 string, buyeruid 2 string, yob 3 int32, keywords 5 string, data 8 *.Data, consent 10 string, "
        "eids 11 *.EID, ext 99 .User.Ext",
        "BidRequest.User.Ext": "consent 1 string, eids 2 *.EID",
        "BidRequest.EID": "source 1 string, uids 2 *.EID.UID, inserter 3 string",
        "BidRequest.EID.UID": "id 1 string, atype 2 int32",
        "BidRequest.Data": "id 1 string, name 2 string, segment 3 *.Segment",
        "BidRequest.Segment": "id 1 string, name 2 string, value 3 string",
        "BidRequest.Regs": "coppa 1 bool, gpp 2 string, gpp_sid 3 *int32, gdpr 4 bool, us_privacy 5 string, ext 99 .Regs.Ext",
        "BidRequest.Regs.Ext": "gdpr 1 bool, us_privacy 2 string, gpc 3 string",
        "BidResponse": "id 1 string, seatbid 2 *.SeatBid, bidid 3 string, cur 4 string",
        "BidResponse.SeatBid": "bid 1 *.Bid, seat 2 string, group 3 bool",
        "BidResponse.Bid": "id 1 string, impid 2 string, price 3 double, adm 6 string, adomain 7 *string, cid 9 string, "
        "crid 10 string",
    },
    MUTATION: {
        "RTBRequest": f"lifecycle 1 =Lifecycle, id 2 string, tmax 3 int32, bid_request 4 :{OPENRTB}.BidRequest, "
        f"bid_response 5 :{OPENRTB}.BidResponse, originator 6 .Originator, applicable_intents 7 *=Intent",
        "Originator": "type 1 int32, id 2 string",
        "RTBResponse": "id 1 string, mutations 2 *.Mutation, metadata 3 .Metadata",
        "Mutation": "intent 1 =Intent, op 2 =Operation, path 3 string, ids 100 .IDsPayload, adjust_deal 101 .AdjustDealPayload, "
        "adjust_bid 102 .AdjustBidPayload",
        "Metadata": "api_version 1 string, model_version 2 string",
        "IDsPayload": "id 1 *string",
        "AdjustDealPayload": "bidfloor 1 double",
        "AdjustBidPayload": "price 1 double",
    },
}
ENUMS = {
    "Lifecycle": ["LIFECYCLE_UNSPECIFIED", "LIFECYCLE_PUBLISHER_BID_REQUEST", "LIFECYCLE_DSP_BID_RESPONSE"],
    "Operation": ["OPERATION_UNSPECIFIED", "OPERATION_ADD", "OPERATION_REMOVE", "OPERATION_REPLACE"],
    "Intent": [
        "INTENT_UNSPECIFIED", "ACTIVATE_SEGMENTS", "ACTIVATE_DEALS", "SUPPRESS_DEALS", "ADJUST_DEAL_FLOOR",
        "ADJUST_DEAL_MARGIN", "BID_SHADE", "ADD_METRICS", "ADD_CIDS",
    ],
}
Field = descriptor_pb2.FieldDescriptorProto


def add_field(message, text, scope):
    name, number, kind = text.split()
    field = message.field.add(name=name, number=int(number))
    field.label = Field.LABEL_REPEATED if kind.startswith("*") else Field.LABEL_OPTIONAL
    kind = kind.lstrip("*")
    if kind[0] in ".:=":
        field.type = Field.TYPE_ENUM if kind[0] == "=" else Field.TYPE_MESSAGE
        field.type_name = "." + (kind[1:] if kind[0] == ":" else f"{scope}.{kind[1:]}")
    else:
        field.type = Field.Type.Value("TYPE_" + kind.upper())
    # Lists of numbers are packed, as in edition 2023.
    if field.label == Field.LABEL_REPEATED and field.type not in (Field.TYPE_MESSAGE, Field.TYPE_STRING):
        field.options.packed = True


def described(package, messages):
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto2")
    found = {"": file}
    for path, fields in messages.items():
        outer, _, name = path.rpartition(".")
        into = found[outer]
        message = (into.nested_type if outer else into.message_type).add(name=name)
        found[path] = message
        # Types of OpenRTB are within the request or the response.
        scope = f"{package}.{path.split('.')[0]}" if package == OPENRTB else package
        for text in fields.split(","):
            add_field(message, text, scope)
    if package == MUTATION:
        file.dependency.append(f"{OPENRTB}.proto")
        for name, values in ENUMS.items():
            enum = file.enum_type.add(name=name)
            for number, value in enumerate(values):
                enum.value.add(name=value, number=number)
    return file


def main():
    task = json.load(sys.stdin)
    pool = descriptor_pool.DescriptorPool()
    for package, messages in MESSAGES.items():
        pool.Add(described(package, messages))
    request_class, response_class = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{MUTATION}.{name}")) for name in ("RTBRequest", "RTBResponse")
    )
    channel = grpc.insecure_channel(task["address"])
    call = channel.unary_unary(
        f"/{SERVICE}/GetMutations",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=response_class.FromString,
    )
    metadata = [("authorization", f"Bearer {task['token']}")]
    answers = []
    for text in task["requests"]:
        request = json_format.ParseDict(text, request_class())
        try:
            response, done = call.with_call(request, metadata=metadata, timeout=20)
            head = dict(done.initial_metadata())
            answer = json_format.MessageToDict(response, preserving_proto_field_name=True)
            answers.append({"answer": answer, "outcome": head.get("aimpoint-outcome"), "reason": head.get("aimpoint-reason")})
        except grpc.RpcError as error:
            answers.append({"code": error.code().name, "details": error.details()})
    try:
        call(request_class(id="1"), timeout=20)
        without_token = "answered"
    except grpc.RpcError as error:
        without_token = error.code().name
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE), timeout=20)
    json.dump(
        {
            "answers": answers,
            "without_token": without_token,
            "health": health_pb2.HealthCheckResponse.ServingStatus.Name(health.status),
        },
        sys.stdout,
    )


main()
