"""Checks that the `user` of each JSON object on standard input is what the package `openrtb` calls a User.

The package turns values into the types of its fields, and keeps members that it does not know. So a user is valid if
what it writes is what it read, and all members are fields. Members of `ext` are free. Prints the number of users.
"""

import json
import sys

out, sys.stdout = sys.stdout, sys.stderr  # The package prints when it is imported.
from openrtb.request import User  # noqa: E402

sys.stdout = out


def check(value, kind, path):
    unknown = set(value) - set(kind._fields)
    assert not unknown, f"{path} has unknown members: {sorted(unknown)}"
    for name, member in value.items():
        of = getattr(kind._fields[name].datatype, "datatype", None)
        if isinstance(member, list):
            assert of is not None, f"{path}.{name} is a list"
            for index, item in enumerate(member):
                check(item, of, f"{path}.{name}[{index}]")


count = 0
for line in sys.stdin:
    user = json.loads(line)["user"]
    check(user, User, "user")
    written = User.deserialize(user).serialize()
    assert written == user, f"{user} is written as {written}"
    assert not {"yob", "gender"} & set(user), "deprecated since OpenRTB 2.6"
    count += 1
print(count)
