"""Bridges to other tools: their steps as stages of ours, our stages as steps of theirs; a module a tool."""
