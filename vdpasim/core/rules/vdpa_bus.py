"""Rules of the vDPA bus (``drivers/vdpa/vdpa.c``)."""

from __future__ import annotations

from vdpasim.core.rules import Rule, register
from vdpasim.uapi import errno as E

register(
    [
        Rule("vdpa.dev.exists", "vdpa.c:vdpa_nl_cmd_dev_add_set_doit()", E.EEXIST, "a device of that name exists"),
        Rule("vdpa.dev.absent", "vdpa.c:vdpa_nl_cmd_dev_del_set_doit()", E.ENODEV, "no device of that name"),
        Rule("vdpa.dev.mgmtdev", "vdpa.c:vdpa_nl_cmd_dev_add_set_doit()", E.ENODEV, "no such management device"),
        Rule("vdpa.dev.attr", "vdpa.c:vdpa_nl_cmd_dev_add_set_doit()", E.EOPNOTSUPP, "an attribute the management device does not take"),
        Rule("vdpa.dev.value", "vdpa.c:vdpa_nl_cmd_dev_add_set_doit()", E.EINVAL, "an attribute's value is malformed"),
        Rule("vdpa.dev.open", "vdpa.c:vhost_vdpa_remove()", E.EBUSY, "the device is open: removal waits for its release"),
    ]
)
