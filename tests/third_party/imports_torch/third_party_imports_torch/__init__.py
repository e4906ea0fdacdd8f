"""Imports torch, which takes seconds, before anybody asks for anything of it."""

import torch as torch
