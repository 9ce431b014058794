# SPDX-License-Identifier: GPL-2.0-or-later
"""Command opcodes that the model has (``mlx5_ifc.h`` MLX5_CMD_OP_*)."""

from enum import IntEnum


class CommandOpcode(IntEnum):
    """Bits 31..16 of the first input dword."""

    QUERY_HCA_CAP = 0x100
    """Read one block of capabilities, maximal or current."""
    QUERY_ADAPTER = 0x101
    """Who made the adapter, and its parameter set id."""
    INIT_HCA = 0x102
    """Start work with the current capabilities."""
    TEARDOWN_HCA = 0x103
    """Stop work; every object is gone."""
    ENABLE_HCA = 0x104
    """Wake the function up."""
    DISABLE_HCA = 0x105
    """Put the function to sleep."""
    QUERY_PAGES = 0x107
    """How many pages of host memory the device wants."""
    MANAGE_PAGES = 0x108
    """Give pages to the device, or take them back."""
    SET_HCA_CAP = 0x109
    """Change the current capabilities before INIT_HCA."""
    QUERY_ISSI = 0x10A
    """Which interface steps the device speaks."""
    SET_ISSI = 0x10B
    """Choose an interface step."""
    SET_DRIVER_VERSION = 0x10D
    """Tell the device the driver's version."""
    CREATE_MKEY = 0x200
    """Create a memory key."""
    DESTROY_MKEY = 0x202
    """Destroy a memory key."""
    CREATE_EQ = 0x301
    """Create an event queue."""
    DESTROY_EQ = 0x302
    """Destroy an event queue."""
    QUERY_EQ = 0x303
    """Read the context of an event queue."""
    CREATE_CQ = 0x400
    """Create a completion queue."""
    DESTROY_CQ = 0x401
    """Destroy a completion queue."""
    QUERY_CQ = 0x402
    """Read the context of a completion queue."""
    MODIFY_CQ = 0x403
    """Change the moderation of a completion queue."""
    QUERY_VPORT_STATE = 0x750
    """Is the vport up?"""
    QUERY_NIC_VPORT_CONTEXT = 0x754
    """Read MAC, MTU and lists of the vport."""
    MODIFY_NIC_VPORT_CONTEXT = 0x755
    """Change MTU, promiscuous modes and lists of the vport."""
    QUERY_VNIC_ENV = 0x76F
    """Read what happened to the vport that should not."""
    QUERY_VPORT_COUNTER = 0x770
    """Read the vport's traffic."""
    ALLOC_Q_COUNTER = 0x771
    """Allocate a set of queue counters."""
    DEALLOC_Q_COUNTER = 0x772
    """Free a set of queue counters."""
    QUERY_Q_COUNTER = 0x773
    """Read a set of queue counters."""
    ALLOC_PD = 0x800
    """Allocate a protection domain."""
    DEALLOC_PD = 0x801
    """Free a protection domain."""
    ALLOC_UAR = 0x802
    """Allocate a page of doorbells."""
    DEALLOC_UAR = 0x803
    """Free a page of doorbells."""
    ACCESS_REG = 0x805
    """Read or write a port register."""
    ALLOC_TRANSPORT_DOMAIN = 0x816
    """Allocate a transport domain."""
    DEALLOC_TRANSPORT_DOMAIN = 0x817
    """Free a transport domain."""
    SET_L2_TABLE_ENTRY = 0x829
    """Let frames to a MAC through the multi-physical-function switch."""
    DELETE_L2_TABLE_ENTRY = 0x82B
    """Forget such a MAC."""
    CREATE_TIR = 0x900
    """Create a transport interface receive."""
    MODIFY_TIR = 0x901
    """Change the hash or loopback of a TIR."""
    DESTROY_TIR = 0x902
    """Destroy a TIR."""
    CREATE_SQ = 0x904
    """Create a send queue."""
    MODIFY_SQ = 0x905
    """Change the state of a send queue."""
    DESTROY_SQ = 0x906
    """Destroy a send queue."""
    QUERY_SQ = 0x907
    """Read the context of a send queue."""
    CREATE_RQ = 0x908
    """Create a receive queue."""
    MODIFY_RQ = 0x909
    """Change the state or VLAN stripping of a receive queue."""
    DESTROY_RQ = 0x90A
    """Destroy a receive queue."""
    QUERY_RQ = 0x90B
    """Read the context of a receive queue."""
    CREATE_TIS = 0x912
    """Create a transport interface send."""
    MODIFY_TIS = 0x913
    """Change the priority of a TIS."""
    DESTROY_TIS = 0x914
    """Destroy a TIS."""
    CREATE_RQT = 0x916
    """Create a receive queue table."""
    MODIFY_RQT = 0x917
    """Replace the queues of a receive queue table."""
    DESTROY_RQT = 0x918
    """Destroy a receive queue table."""
    SET_FLOW_TABLE_ROOT = 0x92F
    """Say which flow table sees frames first."""
    CREATE_FLOW_TABLE = 0x930
    """Create a flow table."""
    DESTROY_FLOW_TABLE = 0x931
    """Destroy a flow table."""
    CREATE_FLOW_GROUP = 0x933
    """Give a range of entries one mask."""
    DESTROY_FLOW_GROUP = 0x934
    """Destroy a flow group."""
    SET_FLOW_TABLE_ENTRY = 0x936
    """Write a flow table entry."""
    DELETE_FLOW_TABLE_ENTRY = 0x938
    """Delete a flow table entry."""
    MODIFY_FLOW_TABLE = 0x93C
    """Change where a flow table's misses go."""
    CREATE_GENERAL_OBJECT = 0xA00
    """Create an encryption key."""
    DESTROY_GENERAL_OBJECT = 0xA03
    """Destroy an encryption key."""
