"""Who else is here, who acts, and what changed?

Any number of gateways serve one directory, as equals, and none tells another anything: they meet in the Table alone.

    member       one life of one process, from its start to its end; its name is never given again
    beat         a number in a member's row, and in the leader's, that moves while it lives; others look whether it moves
    certificate  what proves that a member is dead: its process is gone, and cannot act any more
    leader       the one member that does what only one may do, for a term; terms only grow
    change       one transaction on the directory; it has a number, and a record behind that number
    look         a read of what others wrote: of all members' rows, or of the last change and the records behind the one seen before
    behind       a reader that cannot tell what it missed; it knows nothing then, and reads anew
"""
