"""The commands are built when they are called; the list of `--help` is written without them."""

import pytest

from monitor.cli.app import COMMANDS, command_tree


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_has_the_first_sentence_of_each_commands_help(name):
    command = command_tree().commands[name]
    assert (command.name, command.get_short_help_str(1000)) == (name, COMMANDS[name])


def test_a_name_that_is_no_command_is_none():
    commands = command_tree().commands
    assert "chek" not in commands
    assert list(commands) == list(COMMANDS)
    assert len(commands) == len(COMMANDS)
